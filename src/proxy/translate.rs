//! A request on a connection that HTTP/2 shares, whose answer is read as one of HTTP/1.1.
//!
//! For [`super::hedge`]: Pingora takes over a second request by its connection, and a stream of HTTP/2 has none of its own.

use super::forward::has_no_body;
use super::lent::Lent;
use super::wire::line;
use crate::upstream::http2;
use bytes::Bytes;
use http::header;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, OrErr, Result};
use std::io::{Result as IoResult, Write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// How much of an answer may be on its way.
const ON_ITS_WAY: usize = 64 * 1024;

/// Sends a request without content, and waits for the head of its answer. What is returned reads as that answer, in HTTP/1.1.
/// It breaks off where the backend says nothing for so long.
///
/// # Errors
/// When none came.
pub(super) async fn ask(
    mut lent: Lent,
    request: RequestHeader,
    silence: Duration,
) -> Result<DuplexStream> {
    let (method, tls) = (request.method.clone(), lent.is_tls());
    let session = lent.session();
    http2::write_head(session, request, tls).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    session.set_read_timeout(Some(silence));
    let Some(head) = session.response_header() else {
        return Error::e_explain(ErrorType::ReadError, "no head");
    };
    let bare = has_no_body(&method, head);
    let chunked = !bare && !head.headers.contains_key(header::CONTENT_LENGTH);
    let begin = written(head, chunked).or_err(ErrorType::InternalError, "no memory")?;
    let (mut ours, theirs) = tokio::io::duplex(ON_ITS_WAY);
    tokio::spawn(async move {
        // Where one end fails, the other sees an answer that breaks off.
        let begun = ours.write_all(&begin).await.is_ok();
        if begun && (bare || pass(&mut lent, &mut ours, chunked).await) {
            lent.give_back().await;
        }
    });
    Ok(theirs)
}

/// Passes the content on; says whether it came whole.
async fn pass(lent: &mut Lent, to: &mut DuplexStream, chunked: bool) -> bool {
    loop {
        let mut nothing = [0];
        let piece = tokio::select! {
            piece = lent.session().read_response_body() => piece,
            // Nothing is written there: whoever had it is gone.
            _ = to.read(&mut nothing) => return false,
        };
        let Ok(piece) = piece else {
            return false;
        };
        let written = match (&piece, chunked) {
            (Some(piece), true) if !piece.is_empty() => chunk(to, piece).await,
            (Some(piece), _) => to.write_all(piece).await,
            (None, true) => to.write_all(b"0\r\n\r\n").await,
            (None, false) => Ok(()),
        };
        match (written, piece) {
            (Err(_), _) => return false,
            (Ok(()), None) => return true,
            (Ok(()), Some(_)) => {}
        }
    }
}

async fn chunk(to: &mut DuplexStream, piece: &Bytes) -> IoResult<()> {
    to.write_all(format!("{:x}\r\n", piece.len()).as_bytes())
        .await?;
    to.write_all(piece).await?;
    to.write_all(b"\r\n").await
}

/// The head in HTTP/1.1 (RFC 9112 §4). HTTP/2 has no fields that speak of the connection (RFC 9113 §8.2.2).
fn written(head: &ResponseHeader, chunked: bool) -> IoResult<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    write!(bytes, "HTTP/1.1 {} \r\n", head.status.as_u16())?;
    for (name, value) in &head.headers {
        line(&mut bytes, name.as_str().as_bytes(), value.as_bytes());
    }
    if chunked {
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_for_its_new_framing() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for value in ["1", "2"] {
            head.append_header("X-A", value).unwrap();
        }
        for (chunked, end) in [(false, ""), (true, "transfer-encoding: chunked\r\n")] {
            let text = String::from_utf8(written(&head, chunked).unwrap()).unwrap();
            assert_eq!(
                text,
                format!("HTTP/1.1 200 \r\nx-a: 1\r\nx-a: 2\r\n{end}\r\n")
            );
        }
    }
}
