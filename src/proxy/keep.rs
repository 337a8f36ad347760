//! The end of an HTTP/1 request that was answered here: letting the client see the answer, and keeping its connection.
//!
//! Pingora closes a connection after any error. So its session is taken out before that, finished here, and the connection
//! handed back to its own loop, [`crate::server::connection`].

use super::ctx::{Ctx, LINGER};
use crate::policy::fields;
use crate::policy::framing::Doubt;
use http::header;
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How long what comes is thrown away before a connection is closed.
pub(super) const HANG_UP: Duration = Duration::from_secs(2);

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

/// Ends a connection of which nobody can say what follows. What comes, up to so many bytes, is thrown away for a moment: closing at once would reset
/// it, and with it the answer.
pub(super) async fn hang_up(mut session: Box<ServerSession>, most: usize) {
    let rest = async move {
        session.shutdown().await;
        let ServerSession::H1(http1) = *session else {
            return;
        };
        let mut stream = http1.into_inner();
        let mut dropped = [0; 4096];
        let mut left = most;
        while left > 0 {
            let n = match stream.read(&mut dropped).await {
                Ok(0) => return,
                Ok(n) => n,
                // Something came that the stream would have nobody read: how much, it does not say.
                Err(e) if e.get_ref().is_some_and(|e| e.is::<Doubt>()) => 1,
                Err(_) => return,
            };
            left = left.saturating_sub(n);
        }
    };
    let _ = tokio::time::timeout(HANG_UP, rest).await;
}

/// The same at the end of Pingora's phases. To be called last: the session is an empty shell afterwards.
pub(super) async fn end_connection(session: &mut Session) {
    if session.downstream_session.as_http1().is_some() {
        let shell = ServerSession::Custom(Box::new(()));
        let http1 = std::mem::replace(&mut *session.downstream_session, shell);
        hang_up(Box::new(http1), LINGER_BYTES).await;
    }
}

/// To be called last: the session is an empty shell afterwards.
pub(super) async fn keep_connection(session: &mut Session, ctx: &Ctx) {
    let Some(connection) = ctx.connection.clone() else {
        return;
    };
    if session.downstream_session.as_http1().is_none() || ctx.watch.draining() {
        return;
    }
    let settings = HttpPersistentSettings::for_session(session);
    let shell = ServerSession::Custom(Box::new(()));
    let http1 = std::mem::replace(&mut *session.downstream_session, shell);
    if let Ok(Some(stream)) = http1.finish().await {
        connection.keep(ReusedHttpStream::from_reusable_stream(stream, settings));
    }
}
