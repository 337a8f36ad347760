//! Whether a request line has only what has a place in it (RFC 9112 §3, §3.2).
//!
//! Fed by `server::stream` with the bytes as they come, for the parser escapes in a target what it does not like, and then
//! nobody can tell any more what was sent. Asked by `policy::framing`.

/// What was seen of a request line so far.
#[derive(Debug, Default, Clone, Copy)]
pub struct RequestLine {
    at: Place,
    spaces: u8,
    is_odd: bool,
}

/// Where in the head the last byte was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the line: empty lines are skipped there (RFC 9112 §2.2).
    #[default]
    Before,
    Within,
    /// After a carriage return, with which the line may end.
    Ending,
    After,
}

impl RequestLine {
    /// These bytes came next. What follows the line is not looked at.
    pub fn see(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.at = match (self.at, byte) {
                (Place::After, _) => return,
                (Place::Before, b'\r' | b'\n') => Place::Before,
                (_, b'\n') => Place::After,
                (_, b'\r') => Place::Ending,
                (at, _) => {
                    // Two spaces part it in three.
                    self.spaces = self.spaces.saturating_add(u8::from(byte == b' '));
                    self.is_odd |=
                        at == Place::Ending || byte.is_ascii_control() || self.spaces > 2;
                    Place::Within
                }
            };
        }
    }

    /// Whether a control byte or a space too many is in it.
    pub fn is_odd(&self) -> bool {
        self.is_odd
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_no_place_in_a_request_line() {
        for (line, is_odd) in [
            ("GET / HTTP/1.1\r\n", false),
            ("\r\n\r\nGET / HTTP/1.1\r\nX: \x01 a b\r\n", false),
            ("GET /ä?a=\"<b>\" HTTP/1.1\n", false),
            ("GET /", false),
            ("GET /a b HTTP/1.1\r\n", true),
            ("GET / HTTP/1.1 \r\n", true),
            ("GET /\ta HTTP/1.1\r\n", true),
            ("GET /\x01 HTTP/1.1\r\n", true),
            ("GET /\x7f HTTP/1.1\r\n", true),
            ("GET /\0", true),
            ("GET /\ra HTTP/1.1\r\n", true),
        ] {
            let mut seen = RequestLine::default();
            seen.see(line.as_bytes());
            assert_eq!(seen.is_odd(), is_odd, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn however_it_comes(line in "[ -~\r\n\t\u{1}]{0,40}", cut in any::<prop::sample::Index>()) {
            let (mut whole, mut parts) = (RequestLine::default(), RequestLine::default());
            whole.see(line.as_bytes());
            let (one, two) = line.as_bytes().split_at(cut.index(line.len() + 1));
            parts.see(one);
            parts.see(two);
            prop_assert_eq!(whole.is_odd(), parts.is_odd());
        }
    }
}
