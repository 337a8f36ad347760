//! Keeping an HTTP/1 connection whose request failed but was answered properly.
//!
//! Pingora closes it after any error. So its session is taken out before that, finished here, and the connection handed
//! back to its own loop, [`crate::server::connection`].

use super::ctx::Ctx;
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;

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
