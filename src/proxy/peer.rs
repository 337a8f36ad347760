//! Dialling instructions for one try, from a backend's address and the route's timeouts.

use crate::policy::timeouts::Timeouts;
use crate::upstream::{Upstream, http2};
use pingora::upstreams::peer::HttpPeer;
use std::net::SocketAddr;
use std::time::Duration;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A request, and its answer.
    Exchange,
    /// What goes both ways for as long as both like, once HTTP/1.1 has said so.
    WebSocket,
    /// What goes both ways until the answer ends.
    Duplex,
}

/// How much later Pingora's own limit for reading is than ours: of two that end together, it would be chance which is heard of,
/// and only ours tell a backend that is late from a client in haste.
const NET: Duration = Duration::from_secs(1);

/// What Pingora needs to open, or find, a connection to a backend, by its index, for a try that begins `elapsed` after its request.
pub(super) fn dial(
    (index, address): (usize, SocketAddr),
    upstream: &Upstream,
    timeouts: &Timeouts,
    elapsed: Duration,
    used: Use,
) -> Box<HttpPeer> {
    // The address is an address, never a name: `HttpPeer::new` would look a name up, blocking.
    let mut peer = HttpPeer::new(address, false, String::new());
    if let (Some(tls), Some(backend)) = (&upstream.tls, upstream.backends.get(index)) {
        tls.apply(&mut peer, backend, address);
    }
    // There is no WebSocket over HTTP/2 here (RFC 8441): it goes by HTTP/1.1 where that can be chosen, and is none else.
    let websocket = used == Use::WebSocket && !(upstream.http2 && upstream.tls.is_none());
    if upstream.http2 && !websocket {
        let backend = upstream.backends.get(index);
        http2::share(&mut peer, backend.map_or(0, |b| b.generation()));
    }
    let left = timeouts.left(elapsed);
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect.min(left));
    options.total_connection_timeout = options.connection_timeout;
    options.idle_timeout = Some(upstream.keepalive_idle);
    // The deadlines of the wrapped session are the ones that count. Pingora's own are the net below them, for the moments
    // in which it does not poll that session: while a backend does not take the request body.
    let patience = timeouts.first_byte.min(timeouts.idle).min(left);
    options.write_timeout = Some(match used {
        // A backend may read as slowly as it answers.
        Use::Duplex => left,
        Use::WebSocket => timeouts.websocket,
        Use::Exchange => patience,
    });
    options.read_timeout = match websocket {
        // It may be silent on one side as long as the other is not, which the wrapped session knows.
        true => None,
        false => Some(timeouts.first_byte.max(timeouts.idle).min(left) + NET),
    };
    Box::new(peer)
}
