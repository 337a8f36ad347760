//! Whether a request line has only what has a place in it (RFC 9112 §3, §3.2).
//!
//! Fed by `server::stream` with the bytes as they come, for the parser escapes in a target what it does not like, and then
//! nobody can tell any more what was sent. Asked by `proxy::front`, before `policy::framing`.

/// Bytes of a method that are looked at.
const METHOD: usize = 16;

/// What was seen of a request line so far.
#[derive(Debug, Default, Clone, Copy)]
pub struct RequestLine {
    at: Place,
    /// What comes before the first space, as far as there is room for it.
    method: [u8; METHOD],
    length: usize,
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
                    if self.spaces == 0
                        && byte != b' '
                        && let Some(place) = self.method.get_mut(self.length)
                    {
                        *place = byte;
                        self.length += 1;
                    }
                    // Two spaces part it in three.
                    self.spaces = self.spaces.saturating_add(u8::from(byte == b' '));
                    self.is_odd |=
                        at == Place::Ending || byte.is_ascii_control() || self.spaces > 2;
                    Place::Within
                }
            };
        }
    }

    /// Whether a control byte or a space too many is in it. `method`: that of the request that was read. If it is another one,
    /// this began in the midst of its head, for what was before it had come with the request before.
    pub fn is_odd(&self, method: &str) -> bool {
        let method = method.as_bytes();
        let begins = method.get(..METHOD).unwrap_or(method);
        self.is_odd && self.method.get(..self.length) == Some(begins)
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
            assert_eq!(seen.is_odd("GET"), is_odd, "{line:?}");
            assert!(!seen.is_odd("GE") && !seen.is_odd("GETS"));
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
            let method = line.trim_start().split(' ').next().unwrap_or_default();
            prop_assert_eq!(whole.is_odd(method), parts.is_odd(method));
        }
    }
}
