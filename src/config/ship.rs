//! `access_log.ship`: where finished files of the log go.

use super::address::http_address;
use super::duration::PositiveSpan;
use super::patterns::shown_as_written;
use super::written::{Complaint, Written, written};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A place for objects that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ship {
    /// The bucket.
    pub bucket: String,
    /// What the names of objects begin with; without a `/` at its ends.
    pub prefix: String,
    /// As the provider calls it; what the environment says if not given.
    pub region: Option<String>,
    /// Where it is, if that is not AWS.
    pub endpoint: Option<String>,
    /// How old a file may become before it goes.
    pub every: Duration,
}

/// How old a file becomes, where nothing is said.
const EVERY: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { s3: { bucket: my-logs, region: eu-central-1 } }"
)]
pub(crate) struct ShipSpec {
    s3: S3Spec,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { bucket: my-logs, region: eu-central-1 }"
)]
struct S3Spec {
    bucket: Bucket,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<Prefix>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<Endpoint>,
    every: Option<PositiveSpan>,
}

impl ShipSpec {
    pub(crate) fn compile(self) -> Ship {
        let s3 = self.s3;
        Ship {
            bucket: s3.bucket.0,
            prefix: s3.prefix.map_or_else(String::new, |prefix| prefix.0),
            region: s3.region.map(|region| region.0),
            endpoint: s3.endpoint.map(|endpoint| endpoint.0),
            every: s3.every.map_or(EVERY, |every| every.0),
        }
    }

    /// How it is written with every key.
    pub(crate) fn of(ship: &Ship) -> Self {
        let prefix = Some(ship.prefix.clone()).filter(|prefix| !prefix.is_empty());
        ShipSpec {
            s3: S3Spec {
                bucket: Bucket(ship.bucket.clone()),
                prefix: prefix.map(Prefix),
                region: ship.region.clone().map(Region),
                endpoint: ship.endpoint.clone().map(Endpoint),
                every: Some(PositiveSpan(ship.every)),
            },
        }
    }
}

/// The name of a bucket.
#[derive(Debug, Clone)]
struct Bucket(String);

impl Written for Bucket {
    const EXPECTED: &'static str = "the name of a bucket such as my-logs";

    fn parse(word: &str) -> Result<Self, Complaint> {
        if let Some(rest) = word.strip_prefix("s3://") {
            let bucket = rest.split('/').next().unwrap_or(rest);
            return Err(Complaint::help(format!(
                "name the bucket alone, {bucket}; what follows it is its prefix"
            )));
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        match (3..=255).contains(&word.len()) && word.bytes().all(fits) {
            true => Ok(Bucket(word.to_string())),
            false => Err(Complaint::unfit()),
        }
    }
}

/// What names begin with.
#[derive(Debug, Clone)]
struct Prefix(String);

impl Written for Prefix {
    const EXPECTED: &'static str = "a prefix such as logs/backstop";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let bare = word.trim_matches('/');
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!-_.*'()=/".contains(&b);
        let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
        match bare.bytes().all(fits) && bare.len() <= 512 && bare.split('/').all(is_part) {
            true => Ok(Prefix(bare.to_string())),
            false => Err(Complaint::unfit()),
        }
    }
}

/// A region.
#[derive(Debug, Clone)]
struct Region(String);

impl Written for Region {
    const EXPECTED: &'static str = "a region such as eu-central-1";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        match !word.is_empty() && word.bytes().all(fits) {
            true => Ok(Region(word.to_string())),
            false => Err(Complaint::unfit()),
        }
    }
}

/// Where something is that speaks S3.
#[derive(Debug, Clone)]
struct Endpoint(String);

impl Written for Endpoint {
    const EXPECTED: &'static str = "an address such as https://minio.internal:9000";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let uri = http_address(
            word,
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment are for that",
        )?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        // Hosts are signed as they are asked for.
        let lower = authority.to_ascii_lowercase();
        let word = word.trim_end_matches('/');
        Ok(Endpoint(word.replacen(authority, &lower, 1)))
    }
}

shown_as_written!(Bucket, Prefix, Region, Endpoint);
written!(Bucket, Prefix, Region, Endpoint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (word, fits) in [
            ("my-logs", true),
            ("a.b_c", true),
            ("ab", false),
            ("s3://my-logs", false),
            ("my logs", false),
        ] {
            assert_eq!(Bucket::parse(word).is_ok(), fits, "{word}");
        }
        for (word, kept) in [
            ("logs", Some("logs")),
            ("/logs/a/", Some("logs/a")),
            ("a/../b", None),
            ("a//b", None),
            ("", None),
            ("ä", None),
        ] {
            let parsed = Prefix::parse(word).ok().map(|prefix| prefix.0);
            assert_eq!(parsed.as_deref(), kept, "{word}");
        }
        for (word, fits) in [
            ("http://127.0.0.1:9000", true),
            ("https://minio.internal/", true),
            ("https://a:b@minio.internal", false),
            ("https://minio.internal:99999", false),
            ("https://minio.internal/#a", false),
            ("minio.internal:9000", false),
            ("ftp://minio.internal", false),
            ("https://minio.internal?a", false),
        ] {
            assert_eq!(Endpoint::parse(word).is_ok(), fits, "{word}");
        }
    }
}
