//! A connection to a backend while a request beside those of clients has it.
//!
//! One of HTTP/2 is shared, and Pingora's pool keeps track of who has a stream of it: whoever is cut off, by a deadline or
//! because nobody waits any more, has to give it back as well, or it would stay open for ever.

use futures::FutureExt;
use pingora::Result;
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use std::sync::Arc;
use std::time::Duration;

thread_local! {
    /// One for each worker: connections belong to the runtime they were opened on.
    static CONNECTOR: Arc<Connector> = Arc::new(Connector::new(None));
}

/// Such a connection, or a stream of it. Given back when dropped, unless it is one of HTTP/1.1, whose answer may not be at
/// its end: that is closed.
pub(super) struct Lent {
    /// There until it is given back.
    session: Option<HttpSession>,
    connector: Arc<Connector>,
    peer: Box<HttpPeer>,
    /// How long the connection is kept unused.
    idle: Duration,
}

impl Lent {
    /// Connects, or takes one that there is.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(super) async fn open(peer: Box<HttpPeer>, idle: Duration) -> Result<Self> {
        let connector = CONNECTOR.with(Arc::clone);
        let (session, _) = connector.get_http_session(&*peer).await?;
        Ok(Lent {
            session: Some(session),
            connector,
            peer,
            idle,
        })
    }

    /// What is sent and read by.
    pub(super) fn session(&mut self) -> &mut HttpSession {
        match &mut self.session {
            Some(session) => session,
            None => unreachable!("it is given back only in drop, or for good"),
        }
    }

    /// Whether TLS is spoken on it.
    pub(super) fn is_tls(&self) -> bool {
        self.peer.is_tls()
    }

    /// The connection itself, where nobody shares it.
    ///
    /// # Errors
    /// It comes back where others do.
    pub(super) fn into_own(mut self) -> Result<pingora::protocols::Stream, Box<Self>> {
        match self.session.take() {
            Some(HttpSession::H1(session)) => Ok(session.into_inner()),
            session => {
                self.session = session;
                Err(Box::new(self))
            }
        }
    }

    /// The answer is at its end: somebody else may have it.
    pub(super) async fn give_back(mut self) {
        if let Some(session) = self.session.take() {
            self.connector
                .release_http_session(session, &*self.peer, Some(self.idle))
                .await;
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(session @ HttpSession::H2(_)) = self.session.take() {
            let given = self
                .connector
                .release_http_session(session, &*self.peer, Some(self.idle));
            // Of HTTP/2 there is nothing to wait for.
            let _ = given.now_or_never();
        }
    }
}
