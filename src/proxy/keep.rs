//! The end of an HTTP/1 request that was answered here: letting the client see the answer, and keeping its connection.
//!
//! Pingora closes a connection after any error. So its session is taken out before that, finished here, and the connection
//! handed back to its own loop, [`crate::server::connection`].

use super::ctx::{Ctx, LINGER};
use crate::policy::fields;
use crate::server::flag;
use crate::server::stream::ClientStream;
use http::header;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::server::HttpSession;
use pingora_proxy::Session;
use std::time::Duration;
use tokio::sync::watch;

/// How long what comes is thrown away before a connection is closed.
pub(super) const HANG_UP: Duration = Duration::from_secs(2);

/// How long content that nobody wants is taken before a connection is closed, as nginx's `lingering_time`.
const LINGER_TIME: Duration = Duration::from_secs(30);

/// How much of a body that nobody wants is taken at most.
pub(super) const LINGER_BYTES: usize = 64 * 1024 * 1024;
/// The same of what is not even a head.
pub(super) const LINGER_HEAD: usize = 64 * 1024;

/// Takes what the client still sends of a body nobody wants: closing at once would reset the connection, and with it the
/// answer, before the client has read it.
pub(super) async fn linger(session: &mut ServerSession) {
    let waits_for_100 = fields::has(&session.req_header().headers, &header::EXPECT);
    if session.as_http1().is_none() || waits_for_100 {
        return;
    }
    let rest = async {
        let mut left = LINGER_BYTES;
        loop {
            match session.read_request_body().await {
                Ok(Some(piece)) if left > piece.len() => left -= piece.len(),
                Ok(_) => return,
                // Where the next request would begin is not known.
                Err(_) => return session.set_keepalive(None),
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// Ends an answered request; its connection comes back if it can serve on. `closing`: turns true when those that are idle are to end.
pub(super) async fn serve_on(
    mut stream: Box<ClientStream>,
    keeps: bool,
    closing: &watch::Receiver<bool>,
) -> Option<Box<ClientStream>> {
    if stream.content().is_some() {
        // It was sent on, and is here still.
        stream.skip(LINGER_BYTES).await.ok()?;
        if !keeps {
            // What follows it may be there as well.
            stream.hang_up(LINGER_HEAD, Duration::ZERO).await;
            return None;
        }
    }
    if stream.is_at_end() {
        if keeps {
            return Some(stream);
        }
        if stream.has_unread() {
            Box::pin(hang_up(stream, LINGER_HEAD)).await;
        } else {
            stream.close().await;
        }
        return None;
    }
    Box::pin(until_closing(closing, skip(stream, keeps)))
        .await
        .flatten()
}

/// Ends a connection through which a tunnel went: what was sent to the client last is to arrive, whatever that goes on sending.
pub(super) async fn end_tunnel(stream: Box<ClientStream>, closing: &watch::Receiver<bool>) {
    let hung_up = tokio::time::timeout(LINGER_TIME, stream.hang_up(LINGER_BYTES, LINGER));
    until_closing(closing, hung_up).await;
}

/// Does this, or gives it up a moment after idle connections are to end.
async fn until_closing<T>(
    closing: &watch::Receiver<bool>,
    done: impl Future<Output = T>,
) -> Option<T> {
    let time_is_up = async {
        flag::raised(closing).await;
        tokio::time::sleep(HANG_UP).await;
    };
    tokio::select! {
        biased;
        done = done => Some(done),
        () = time_is_up => None,
    }
}

/// Throws away what is still to come of content; the connection comes back if that was all, and it can serve on.
async fn skip(mut stream: Box<ClientStream>, keeps: bool) -> Option<Box<ClientStream>> {
    if keeps {
        let skipped = tokio::time::timeout(LINGER, stream.skip(LINGER_BYTES)).await;
        if let Ok(Ok(true)) = skipped {
            return Some(stream);
        }
    }
    // It is content, as far as is known: who sends it may read the answer only afterwards.
    let _ = tokio::time::timeout(LINGER_TIME, stream.hang_up(LINGER_BYTES, LINGER)).await;
    None
}

/// Ends a connection of which nobody can say what follows. What comes, up to so many bytes, is thrown away for a moment: closing at
/// once would reset it, and with it the answer.
pub(super) async fn hang_up(stream: Box<ClientStream>, most: usize) {
    let _ = tokio::time::timeout(HANG_UP, stream.hang_up(most, HANG_UP)).await;
}

/// The same at the end of Pingora's phases. To be called last: the session is an empty shell afterwards.
pub(super) async fn end_connection(session: &mut Session) {
    if let Some(http1) = take_http1(session)
        && let Some(stream) = ClientStream::from_stream(http1.into_inner())
    {
        hang_up(stream, LINGER_BYTES).await;
    }
}

/// To be called last: the session is an empty shell afterwards.
pub(super) async fn keep_connection(session: &mut Session, ctx: &Ctx) {
    let Some(connection) = ctx.connection.clone() else {
        return;
    };
    if ctx.watch.draining() {
        return;
    }
    if let Some(http1) = take_http1(session)
        && let Ok(Some(reusable)) = http1.reuse().await
        && let Some(stream) = ClientStream::from_stream(reusable.into_parts().0)
    {
        connection.keep(stream);
    }
}

/// Takes the session of HTTP/1 out, if it is one.
fn take_http1(session: &mut Session) -> Option<HttpSession> {
    session.downstream_session.as_http1()?;
    let shell = ServerSession::Custom(Box::new(()));
    match std::mem::replace(&mut *session.downstream_session, shell) {
        ServerSession::H1(http1) => Some(http1),
        _ => None,
    }
}
