//! The time as policies of running pools count it: since the process first asked.
//!
//! One clock for all, so that what one worker notes another can compare.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long ago the first call was; never goes back.
pub fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
