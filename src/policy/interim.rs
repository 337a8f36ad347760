//! Which interim answers go on to a client of HTTP/2 (RFC 9110 §15.2).
//!
//! Asked by `server::http2` for each. They are not held back where a client reads nothing, as content is, so that there is an end to
//! them.

use http::StatusCode;

/// Interim answers that one request gets at most.
const MOST: u32 = 16;

/// Whether one with this status goes on, after so many others. `waits`: whether the client waits to be told that its content is
/// wanted. To change the protocol is for nobody there (RFC 9113 §8.6).
pub fn goes_on(status: StatusCode, waits: bool, before: u32) -> bool {
    match status {
        StatusCode::SWITCHING_PROTOCOLS => false,
        // It is waited for, however many others came.
        StatusCode::CONTINUE => waits && before <= MOST,
        _ => before < MOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_go_on() {
        for (status, waits, before, goes) in [
            (103, false, 0, true),
            (103, true, 15, true),
            (103, true, 16, false),
            (102, false, 1, true),
            (101, true, 0, false),
            (100, true, 0, true),
            (100, true, 16, true),
            (100, true, 17, false),
            (100, false, 0, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(goes_on(status, waits, before), goes, "{status} {before}");
        }
    }
}
