//! The fields of an answer on their way from one connection to the other, as lines of HTTP/1.1 (RFC 9112 §5).

use super::super::wire::line;
use std::ops::Range;

/// Writes fields whose names and values are parts of these bytes. Those that stand there as they are to be written, as nearly all
/// do, are copied together, as far as one follows the other.
pub(super) struct FieldWriter<'a> {
    bytes: &'a [u8],
    /// Which are still to be copied.
    run: Range<usize>,
}

impl<'a> FieldWriter<'a> {
    /// Of these bytes.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        FieldWriter { bytes, run: 0..0 }
    }

    /// Writes a field, or will when its run is over.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let (name_at, value_at) = (place(self.bytes, name), place(self.bytes, value));
        let place = name_at.start..value_at.end.saturating_add(2);
        let is_written = self.bytes.get(name_at.end..value_at.start) == Some(b": ")
            && self.bytes.get(value_at.end..place.end) == Some(b"\r\n");
        if is_written && self.run.end == place.start {
            self.run.end = place.end;
            return;
        }
        self.end(out);
        if is_written {
            self.run = place;
            return;
        }
        line(out, name, value);
    }

    /// Writes what is still to be copied.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        let run = std::mem::take(&mut self.run);
        out.extend_from_slice(self.bytes.get(run).unwrap_or_default());
    }
}

/// Where in `bytes` a part of them is. Beyond their end if it is none.
pub(super) fn place(bytes: &[u8], part: &[u8]) -> Range<usize> {
    let from = (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
    from..from.saturating_add(part.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads the fields of a head as they are read from a backend, and writes those whose names do not begin with `x`.
    fn written(head: &[u8]) -> Vec<u8> {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut parsed = httparse::Response::new(&mut fields);
        assert!(parsed.parse(head).unwrap().is_complete());
        let (mut out, mut writer) = (Vec::new(), FieldWriter::of(head));
        for field in parsed
            .headers
            .iter()
            .filter(|field| !field.name.starts_with('x'))
        {
            writer.write(&mut out, field.name.as_bytes(), field.value);
        }
        writer.end(&mut out);
        out
    }

    #[test]
    fn fields_are_written_one_way_however_they_came() {
        for (came, goes) in [
            ("", ""),
            ("a: b\r\n", "a: b\r\n"),
            ("a: b\r\nx: y\r\nc: d\r\n", "a: b\r\nc: d\r\n"),
            ("x: y\r\na: b\r\nc: d\r\nx: y\r\n", "a: b\r\nc: d\r\n"),
            ("a:b\r\nc: d\r\n", "a: b\r\nc: d\r\n"),
            ("a: b \r\nc: \t d\r\ne: f\r\n", "a: b\r\nc: d\r\ne: f\r\n"),
            ("a: b\nc: d\r\n", "a: b\r\nc: d\r\n"),
            ("a: b \nc: d\r\n", "a: b\r\nc: d\r\n"),
            ("a:\r\nb: \r\nc:\nd: \n", "a: \r\nb: \r\nc: \r\nd: \r\n"),
            ("a: b: \r\n\r\nc: d", "a: b:\r\n"),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{came}\r\n");
            assert_eq!(String::from_utf8_lossy(&written(head.as_bytes())), goes);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled(
            fields in prop::collection::vec(("[ax][a-z]{0,3}", "[ \t]{0,3}", "([!-~]{1,3}( [!-~]{1,3})?)?", "[ \t]{0,2}", "\r?\n"), 0..8)
        ) {
            let (mut head, mut goes) = ("HTTP/1.1 200 OK\r\n".to_owned(), String::new());
            for (name, before, value, after, end) in fields {
                head += &format!("{name}:{before}{value}{after}{end}");
                if !name.starts_with('x') {
                    goes += &format!("{name}: {value}\r\n");
                }
            }
            head += "\r\n";
            prop_assert_eq!(String::from_utf8(written(head.as_bytes())).unwrap(), goes);
        }
    }
}
