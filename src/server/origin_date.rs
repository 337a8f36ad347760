//! The origin's `Date` on its way out (RFC 9110 §6.6.1).
//!
//! Pingora writes the time of day into every response of HTTP/1, so that how old a stored answer is could not be seen from
//! it. `proxy` leaves the date that belongs there; the stream puts it in as the head passes. Both have 29 bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The length of a date of HTTP (RFC 9110 §5.6.7).
const LENGTH: usize = 29;
const NAME: &[u8] = b"\r\nDate: ";

/// What the proxy tells the stream of one connection.
#[derive(Debug, Default)]
pub struct OriginDate {
    date: Mutex<[u8; LENGTH]>,
    set: AtomicBool,
}

impl OriginDate {
    /// The next head carries this date. What is no date in the usual form is not taken.
    pub fn set(&self, date: &[u8]) {
        if let Ok(date) = date.try_into()
            && date_ends(date)
        {
            *self.date.lock().unwrap_or_else(PoisonError::into_inner) = *date;
            self.set.store(true, Ordering::Release);
        }
    }

    /// The next head carries the time of day after all.
    pub fn clear(&self) {
        self.set.store(false, Ordering::Release);
    }

    /// Looks at what is written: into the next head goes the date, if there is one to put in.
    pub fn put_into(&self, written: &mut [u8]) {
        if !self.is_due(written) {
            return;
        }
        self.clear();
        let end = written.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let head = written
            .get_mut(..end.unwrap_or_default())
            .unwrap_or_default();
        let name = head.windows(NAME.len()).position(|bytes| bytes == NAME);
        let Some(at) = name.map(|at| at + NAME.len()) else {
            return;
        };
        if let Some(place) = head.get_mut(at..at + LENGTH) {
            let date = self.date.lock().unwrap_or_else(PoisonError::into_inner);
            place.copy_from_slice(&*date);
        }
    }

    /// These bytes pass unchanged; if they begin the head, its date is not for the next one.
    pub fn pass(&self, written: &[u8]) {
        if self.is_due(written) {
            self.clear();
        }
    }

    /// Whether a date waits, and this is the beginning of a final response's head.
    fn is_due(&self, written: &[u8]) -> bool {
        self.set.load(Ordering::Acquire)
            && written.starts_with(b"HTTP/1.")
            && written.get(9).is_none_or(|digit| *digit != b'1')
    }
}

fn date_ends(date: &[u8; LENGTH]) -> bool {
    date.ends_with(b" GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_replaced_once() {
        let slot = OriginDate::default();
        let head = |date: &str| format!("HTTP/1.1 200 OK\r\nDate: {date}\r\n\r\n").into_bytes();
        let (old, new) = (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 22 Nov 2026 04:55:30 GMT",
        );
        let mut bytes = head(new);
        slot.put_into(&mut bytes);
        assert_eq!(bytes, head(new));
        slot.set(b"yesterday");
        slot.set(old.as_bytes());
        // Neither a body nor an interim answer takes it.
        let mut body = [b"x", &head(new)[..]].concat();
        let interim = b"HTTP/1.1 103 Early Hints\r\nDate: x\r\n\r\n".to_vec();
        for other in [&mut body, &mut interim.clone()] {
            let before = other.clone();
            slot.put_into(other);
            assert_eq!(*other, before);
        }
        slot.put_into(&mut bytes);
        assert_eq!(bytes, head(old));
        let mut next = head(new);
        slot.put_into(&mut next);
        assert_eq!(next, head(new));
        // A head too large to be changed takes it with it.
        slot.set(old.as_bytes());
        slot.pass(b"HTTP/1.1 200 OK\r\n");
        slot.put_into(&mut next);
        assert_eq!(next, head(new));
    }
}
