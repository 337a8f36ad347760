//! `traces`: where spans of requests and their tries go.

use super::address::http_address;
use super::patterns::shown_as_written;
use super::percentage::Percentage;
use super::written::{Complaint, Written, written};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where spans go, and of how many requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The address that takes them: of OTLP by HTTP, its path included.
    pub otlp: String,
    /// The share of requests, from 0.0 to 1.0.
    pub share: f64,
    /// What this service is called.
    pub service: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { otlp: \"http://127.0.0.1:4318\", sample: 10% }"
)]
pub(crate) struct TracesSpec {
    otlp: Collector,
    sample: Option<Percentage>,
    service: Option<Service>,
}

impl TracesSpec {
    pub(crate) fn compile(self) -> Traces {
        Traces {
            otlp: self.otlp.0,
            share: self.sample.map_or(1.0, Percentage::share),
            service: self
                .service
                .map_or_else(|| "backstop".into(), |name| name.0),
        }
    }

    /// How it is written with every key.
    pub(crate) fn of(traces: &Traces) -> Self {
        TracesSpec {
            otlp: Collector(traces.otlp.clone()),
            sample: Some(Percentage::of(traces.share)),
            service: Some(Service(traces.service.clone())),
        }
    }
}

/// Where the path is that OTLP has for spans, if nothing else is said.
const PATH: &str = "/v1/traces";

/// Who takes spans.
#[derive(Debug, Clone)]
struct Collector(String);

impl Written for Collector {
    const EXPECTED: &'static str = "an address such as http://127.0.0.1:4318";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let uri = http_address(
            word,
            "OTEL_EXPORTER_OTLP_HEADERS in the environment is for that",
        )?;
        if uri.port_u16() == Some(4317) {
            return Err(Complaint::because("4317 is the port of OTLP by gRPC")
                .or("by HTTP, as it is spoken here, it is 4318"));
        }
        Ok(Collector(match uri.path() {
            "" | "/" => format!("{}{PATH}", word.trim_end_matches('/')),
            _ => word.to_string(),
        }))
    }
}

/// The name of a service.
#[derive(Debug, Clone)]
struct Service(String);

impl Written for Service {
    const EXPECTED: &'static str = "the name of a service such as edge";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match word.trim().is_empty() || word.chars().any(char::is_control) {
            true => Err(Complaint::unfit()),
            false => Ok(Service(word.to_string())),
        }
    }
}

shown_as_written!(Collector, Service);
written!(Collector, Service);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors() {
        for (word, kept) in [
            (
                "http://127.0.0.1:4318",
                Some("http://127.0.0.1:4318/v1/traces"),
            ),
            (
                "https://otel.internal/",
                Some("https://otel.internal/v1/traces"),
            ),
            (
                "https://otel.internal/own",
                Some("https://otel.internal/own"),
            ),
            ("http://127.0.0.1:4317", None),
            ("127.0.0.1:4318", None),
            ("http://:4318", None),
            ("http://127.0.0.1:4318/#x", None),
            ("https://a:b@otel.internal", None),
        ] {
            let parsed = Collector::parse(word).ok().map(|collector| collector.0);
            assert_eq!(parsed.as_deref(), kept, "{word}");
        }
    }
}
