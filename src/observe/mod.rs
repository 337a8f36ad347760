//! What is told about requests to those who were not there.

pub mod access_log;
pub mod exposition;
pub mod formats;
pub mod history;
pub mod identity;
pub mod json;
mod lanes;
pub mod outgoing;
pub mod parts;
mod pending;
pub mod process_log;
pub mod rotation;
pub mod shipping;
pub mod syslog;
pub mod tally;
pub mod template;
pub mod traces;
