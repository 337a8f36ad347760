//! The page as it changes: a stream of server-sent events (WHATWG HTML §9.2), each the page's main part.
//!
//! Ends when the client is gone, or the process drains.

use super::{Answer, Scene, page, status::Status};
use crate::server::flag;
use http::{StatusCode, header};
use log::debug;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Streams at the same time: the other connections of the address are for those who ask once.
pub(super) const MOST: usize = 32;
/// From one event to the next.
const PERIOD: Duration = Duration::from_secs(2);

/// Streams until there is a reason to end. Says no where there are too many.
pub(super) async fn stream(
    session: &mut ServerSession,
    scene: &Scene,
    places: &Semaphore,
    shutdown: &ShutdownWatch,
) -> std::result::Result<(), Answer> {
    let Ok(_place) = places.try_acquire() else {
        let why = format!("{MOST} others follow already");
        return Err(Answer::refusal(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    if let Err(e) = send(session, scene, shutdown).await {
        debug!("who followed the page is gone: {e}");
    }
    Ok(())
}

async fn send(session: &mut ServerSession, scene: &Scene, shutdown: &ShutdownWatch) -> Result<()> {
    session.set_keepalive(None);
    let mut head = ResponseHeader::build(StatusCode::OK, Some(3))?;
    head.insert_header(header::CONTENT_TYPE, "text/event-stream")?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    session.write_response_header(Box::new(head)).await?;
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = flag::raised(shutdown) => break,
        }
        let event = event(&page::part(&Status::of(scene)));
        session.write_response_body(event.into(), false).await?;
    }
    session.finish_body().await
}

/// One event with this text.
fn event(text: &str) -> String {
    let mut event = String::with_capacity(text.len() + 1024);
    for line in text.lines() {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_marked() {
        assert_eq!(
            event("a\nb\r\n\nc"),
            "data: a\ndata: b\ndata: \ndata: c\n\n"
        );
    }
}
