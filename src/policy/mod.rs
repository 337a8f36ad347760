//! Decisions, and nothing else: given the facts, what is to be done, and why.
//!
//! The rule of this directory: `std` and `http` only. No sockets, no runtime, no parsing of files, no clock and no dice:
//! time and chance are arguments, so that every decision is a table in a test. `config` compiles into these types and
//! `proxy` asks them. A test (`tests/e2e/architecture.rs`) holds the rule.

pub mod access;
pub mod adaptive;
pub mod admission;
pub mod answer;
pub mod balancer;
pub mod blame;
pub mod blocklist;
pub mod budget;
pub mod cache;
pub mod cache_control;
pub mod canary;
pub mod chunks;
pub mod claims;
pub mod concurrency;
pub mod conditional;
pub mod cors;
pub mod credentials;
mod cycle;
pub mod date;
pub mod eights;
pub mod encoding;
pub mod error_body;
pub mod fields;
pub mod forwarded;
pub mod frames;
pub mod framing;
pub mod glimpse;
pub mod grpc;
pub mod headers;
pub mod health;
pub mod hedge;
pub mod http1;
pub mod interim;
pub mod jwt; // whether a token is good enough
pub mod limits;
pub mod outcome;
pub mod pace;
pub mod pattern;
pub mod plain;
pub mod proxy_protocol;
pub mod range;
pub mod rate;
pub mod redact;
pub mod renewal;
pub mod requirement;
pub mod retry;
pub mod route;
pub mod router;
pub mod sampling;
pub mod security;
pub mod spread;
pub mod success;
pub mod target;
pub mod template;
pub mod timeouts;
pub mod trace;
pub mod trailers;
pub mod validator;
pub mod window;
