//! What speaks S3, by HTTP as the rest of the program speaks it.
//!
//! Who asks is what the environment says (`AWS_ACCESS_KEY_ID` and its like, a container's or a service account's), or else the role
//! of the instance.

use crate::config::Ship;
use crate::observe::outgoing::{Http, NoAnswer, in_words};
use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// How long one request may take, its content included, and then its answer.
const REQUEST: Duration = Duration::from_secs(120);
/// Bytes that an answer may have: there are none that would be large.
const ANSWER: usize = 1024 * 1024;
/// How long what is said of an error may be.
const LONGEST: usize = 600;

/// The place that this means. Nobody is asked yet.
///
/// # Errors
/// When the environment contradicts itself.
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
        // The file says where, whatever the environment says of others.
        builder = builder
            .with_endpoint(endpoint)
            .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint)
            .with_virtual_hosted_style_request(false);
    }
    Ok(Arc::new(builder.build()?))
}

/// An error as one line, without what is said twice.
pub(super) fn reason(error: &object_store::Error) -> String {
    let text = in_words(error);
    // What a server says at length may have in it what only it should know.
    let part = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(part, _)| part)
    };
    let said = part("Code").map(|code| match part("Message") {
        Some(message) => format!("{code}: {message}"),
        None => code.to_string(),
    });
    let words = said.as_deref().unwrap_or(&text).split_whitespace();
    let words = words.collect::<Vec<_>>().join(" ");
    words.chars().take(LONGEST).collect()
}

#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Speaker(Http::new())))
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
        // All of it here, in time: nobody would notice if it stopped half way.
        let body = BodyExt::collect(Limited::new(body, ANSWER));
        let body = tokio::time::timeout(REQUEST, body).await;
        let body = body.map_err(|e| HttpError::new(HttpErrorKind::Timeout, e))?;
        let body = body.map_err(|e| HttpError::new_boxed(HttpErrorKind::Interrupted, e))?;
        let never = |never: std::convert::Infallible| match never {};
        let body = Full::new(body.to_bytes()).map_err(never);
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}
