//! The HTTP by which this program itself asks somebody, where what it observed goes elsewhere.

use http::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use log::warn;
use rustls::{ClientConfig, RootCertStore};
use std::time::Duration;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// An error with all that is below it: what libraries say themselves is "client error".
pub fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        below = error.source();
    }
    words
}

/// One that keeps its connections, in clear text or by TLS with the system's certificates.
#[derive(Debug, Clone)]
pub(super) struct Http<B>(Client<HttpsConnector<HttpConnector>, B>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// There was no connection.
    #[error(transparent)]
    Connect(hyper_util::client::legacy::Error),
    /// It broke.
    #[error(transparent)]
    Broken(hyper_util::client::legacy::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl<B> Http<B>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Nobody is asked yet. Where the system has no certificates, nobody is believed who speaks TLS.
    pub(super) fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        let builder = HttpsConnectorBuilder::new();
        let builder = builder.with_native_roots().unwrap_or_else(|e| {
            warn!(
                "the certificates of the system cannot be read, only clear text can be spoken: {e}"
            );
            let nobody = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
            HttpsConnectorBuilder::new().with_tls_config(nobody.with_no_client_auth())
        });
        let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
        Http(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Asks, and waits so long for the head of the answer.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn ask(
        &self,
        request: Request<B>,
        within: Duration,
    ) -> Result<Response<hyper::body::Incoming>, NoAnswer> {
        let answered = tokio::time::timeout(within, self.0.request(request)).await;
        let answered = answered.map_err(|_| NoAnswer::Late(within))?;
        answered.map_err(|e| match e.is_connect() {
            true => NoAnswer::Connect(e),
            false => NoAnswer::Broken(e),
        })
    }
}
