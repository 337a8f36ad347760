//! What speaks S3, by HTTP as the rest of the program speaks it.
//!
//! Who asks is what the environment says (`AWS_ACCESS_KEY_ID` and its like, a container's or a service account's), or else the role
//! of the instance.

use crate::config::Ship;
use crate::observe::outgoing::{Http, NoAnswer};
use async_trait::async_trait;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// How long one request may take, its content included.
const REQUEST: Duration = Duration::from_secs(120);
/// The place that this means. Nobody is asked yet.
///
/// # Errors
/// When the environment contradicts itself, or the system's certificates cannot be read.
pub(super) fn open(ship: &Ship) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&ship.bucket)
        .with_http_connector(Connector)
        .with_allow_http(true)
        // The whole is tried again by who asks; this is for single answers that went wrong.
        .with_retry(RetryConfig {
            max_retries: 2,
            retry_timeout: Duration::from_secs(30),
            backoff: BackoffConfig::default(),
        });
    if let Some(region) = &ship.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &ship.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    Ok(Arc::new(builder.build()?))
}

/// An error as one line, without what is said twice.
pub(super) fn reason(error: &object_store::Error) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let http = Http::new().map_err(|source| object_store::Error::Generic {
            store: "S3",
            source: Box::new(source),
        })?;
        Ok(HttpClient::new(Speaker(http)))
    }
}

#[derive(Debug)]
struct Speaker(Http<HttpRequestBody>);

#[async_trait]
impl HttpService for Speaker {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = self.0.ask(request, REQUEST).await;
        let response = answered.map_err(|e| {
            let kind = match &e {
                NoAnswer::Connect(_) => HttpErrorKind::Connect,
                NoAnswer::Broken(_) => HttpErrorKind::Interrupted,
                NoAnswer::Late(_) => HttpErrorKind::Timeout,
            };
            HttpError::new(kind, e)
        })?;
        let (head, body) = response.into_parts();
        let body = http_body_util::BodyExt::map_err(body, |e| {
            HttpError::new(HttpErrorKind::Interrupted, e)
        });
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}
