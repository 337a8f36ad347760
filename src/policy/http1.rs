//! Whether what a client sends is HTTP/1.1 to the letter, byte by byte: lines, fields, chunks and trailers (RFC 9112 §2.2, §3,
//! §5, §6, §7.1).
//!
//! Fed by `server::stream` with all that a client sends. A parser that is lenient escapes, joins and skips what has no place in
//! a message, and nobody can tell any more what was sent: what it was is found out here, before. Asked by `proxy::front` for each
//! head; what is between fields is `policy::framing`'s.

use super::eights;
use super::framing::Doubt;

#[cfg(test)]
mod tests;

/// Bytes that a chunk may have beside its size in its first line (§7.1.1).
const EXTENSIONS: u16 = 1024;
/// Bytes that the trailers of a message may have.
const TRAILERS: u16 = 8 * 1024;
/// Bytes of a name or a value that are kept: `transfer-encoding`, and as many digits as the largest length has.
const KEPT: usize = 20;
/// How long the names are that say where a message ends and whom it is for.
const HOST: usize = 4;
const LENGTH: usize = 14;
const CODING: usize = 17;

/// What a client sends.
#[derive(Debug, Default, Clone, Copy)]
pub struct Http1 {
    at: At,
    /// The message whose bytes come, the first one being 1.
    message: u32,
    /// How often the fields are there that say where it ends and whom it is for.
    lengths: u8,
    codings: u8,
    hosts: u8,
    /// The length that its head tells.
    length: u64,
    name: Word,
    value: Word,
    /// Whether nothing of the target has come.
    is_target_empty: bool,
    /// The last part of the request line, as far as it came.
    version: [u8; 8],
    doubt: Option<Doubt>,
}

/// What the next byte belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Whatever comes before a request: empty lines are skipped (§2.2).
    #[default]
    Between,
    /// The end of such a line.
    EmptyLine,
    /// The request line, after so many spaces; its end.
    Line(u8),
    LineEnd,
    /// A field, or the empty line, of a head, or of trailers that may have so many bytes more; the end of a field.
    Start(Section),
    Name(Section),
    Value(Section),
    ValueEnd(Section),
    /// The end of the empty line.
    SectionEnd(Section),
    /// Content of so many bytes more.
    Content(u64),
    /// A chunk's size and how many digits it has so far; what else is in its line; the end of that line.
    Size(u64, u8),
    Extension(u64, u16),
    SizeEnd(u64),
    /// A chunk of which so many bytes are still to come; its end.
    Chunk(u64),
    ChunkEnd,
    ChunkEnded,
}

/// How far what comes is followed.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// As far as it came.
    End,
    /// To the end of a head.
    Content,
    /// To the end of a message.
    Message,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Head,
    /// How many bytes they may still have.
    Trailers(u16),
}

/// The beginning of a name or value, as long as there is room for it.
#[derive(Debug, Default, Clone, Copy)]
struct Word {
    bytes: [u8; KEPT],
    length: usize,
}

impl Word {
    fn clear(&mut self) {
        self.length = 0;
    }

    /// One byte more than there is room for makes it another word than any that is looked for.
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length = self.length.saturating_add(1);
    }

    /// The word, if there was room for all of it.
    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Http1 {
    /// At the beginning of chunked content.
    pub fn chunks() -> Self {
        Http1 {
            at: At::Size(0, 0),
            message: 1,
            ..Http1::default()
        }
    }

    /// How many messages have begun.
    pub fn message(&self) -> u32 {
        self.message
    }

    /// Whether all that began came to its end.
    pub fn is_between(&self) -> bool {
        self.at == At::Between && self.doubt.is_none()
    }

    /// Whether a chunk, or the last one, has to be next.
    pub fn is_between_chunks(&self) -> bool {
        self.at == At::Size(0, 0) && self.doubt.is_none()
    }

    /// How much content of a length that its head tells is still to come.
    pub fn left(&self) -> Option<u64> {
        match (self.at, self.doubt) {
            (At::Content(left), None) => Some(left),
            _ => None,
        }
    }

    fn is_in_trailers(&self) -> bool {
        use Section::Trailers;
        matches!(
            self.at,
            At::Start(Trailers(_))
                | At::Name(Trailers(_))
                | At::Value(Trailers(_))
                | At::ValueEnd(Trailers(_))
        )
    }

    /// These bytes came next. After the first doubt nothing is looked at any more: what follows could be anything.
    pub fn see(&mut self, bytes: &[u8]) {
        self.go(bytes, Until::End, |_| {});
    }

    /// The same up to the end of a head; says how much belongs to it, empty lines before it included, and whether that is all
    /// of it. That two of its fields contradict each other shows at its end.
    pub fn follow_head(&mut self, bytes: &[u8]) -> (usize, bool) {
        self.go(bytes, Until::Content, |_| {})
    }

    /// The same up to the end of the message under way; says how much belongs to it. Hands on what belongs to trailers.
    pub fn follow_one(&mut self, bytes: &[u8], keep: impl FnMut(&[u8])) -> usize {
        self.go(bytes, Until::Message, keep).0
    }

    /// Says how much was looked at, and whether that is because all is there that was to be followed.
    fn go(&mut self, all: &[u8], until: Until, mut keep: impl FnMut(&[u8])) -> (usize, bool) {
        let (mut bytes, mut is_over) = (all, false);
        while self.doubt.is_none()
            && !is_over
            && let Some(&byte) = bytes.first()
        {
            if self.is_in_trailers() {
                keep(&[byte]);
            }
            let ends_head = self.at == At::SectionEnd(Section::Head) && byte == b'\n';
            let taken = match self.at {
                At::Content(left) | At::Chunk(left) => self.pass(left, bytes.len()),
                // Nearly always a line comes as a whole, and is as it should be.
                At::Between => self.whole_line(bytes).unwrap_or_else(|| self.take(byte)),
                At::Start(Section::Head) => {
                    self.whole_field(bytes).unwrap_or_else(|| self.take(byte))
                }
                // One that comes in parts, which may be long ones.
                At::Value(Section::Head) if !matches!(self.name.length, HOST | LENGTH | CODING) => {
                    match value(bytes) {
                        0 => self.take(byte),
                        length => length,
                    }
                }
                _ => self.take(byte),
            };
            bytes = bytes.get(taken..).unwrap_or_default();
            is_over = match until {
                Until::End => false,
                Until::Content => ends_head,
                Until::Message => self.at == At::Between,
            };
        }
        (all.len() - bytes.len(), is_over)
    }

    /// What is doubtful in the message under way, or in one before it.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// A request line, if all of it is there and as it should be.
    fn whole_line(&mut self, bytes: &[u8]) -> Option<usize> {
        let method = name(bytes);
        let target = target(bytes.get(method + 1..)?);
        let version = method + 1 + target + 1;
        let is_parted = bytes.get(method) == Some(&b' ') && bytes.get(version - 1) == Some(&b' ');
        let end = bytes.get(version..version + 10)?;
        let is_version = matches!(end, b"HTTP/1.1\r\n" | b"HTTP/1.0\r\n");
        if method == 0 || target == 0 || !is_parted || !is_version {
            return None;
        }
        self.begin();
        self.at = At::Start(Section::Head);
        Some(version + 10)
    }

    /// A field of a head, if all of it is there and as it should be.
    fn whole_field(&mut self, bytes: &[u8]) -> Option<usize> {
        let name = name(bytes);
        let (b':', false) = (*bytes.get(name)?, name == 0) else {
            return None;
        };
        let rest = bytes.get(name + 1..)?;
        let length = value(rest);
        let b"\r\n" = rest.get(length..length + 2)? else {
            return None;
        };
        if matches!(name, HOST | LENGTH | CODING) {
            // No more of it counts than where it comes byte by byte.
            let value = rest.get(..length)?.trim_ascii_start();
            let value = if value.len() > KEPT { &[] } else { value };
            self.note(bytes.get(..name)?, value);
        }
        Some(name + 1 + length + 2)
    }

    /// Another message begins.
    fn begin(&mut self) {
        *self = Http1 {
            message: self.message + 1,
            ..Http1::default()
        };
    }

    /// Of so much that is still to come, as much as is there.
    fn pass(&mut self, left: u64, there: usize) -> usize {
        let taken = there.min(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - taken as u64;
        self.at = match (self.at, left) {
            (At::Chunk(_), 0) => At::ChunkEnd,
            (At::Chunk(_), left) => At::Chunk(left),
            (_, 0) => At::Between,
            (_, left) => At::Content(left),
        };
        taken
    }

    /// One byte.
    fn take(&mut self, byte: u8) -> usize {
        match self.next(byte) {
            Ok(at) => self.at = at,
            Err(doubt) => self.doubt = Some(doubt),
        }
        1
    }

    fn next(&mut self, byte: u8) -> Result<At, Doubt> {
        match (self.at, byte) {
            (At::Between, b'\r') => Ok(At::EmptyLine),
            (At::EmptyLine, b'\n') => Ok(At::Between),
            (At::Between | At::EmptyLine, _) => {
                let is_empty_line = self.at == At::EmptyLine || byte == b'\n';
                self.begin();
                match is_token(byte) {
                    _ if is_empty_line => Err(Doubt::LineEnd),
                    true => Ok(At::Line(0)),
                    false => Err(Doubt::RequestLine),
                }
            }
            (At::Line(spaces), _) => self.line(spaces, byte),
            (At::Start(section), b'\r') => Ok(At::SectionEnd(section)),
            (At::Start(_), b' ' | b'\t') => Err(Doubt::Folded),
            (At::Start(section), _) => {
                self.name.clear();
                self.name(section, byte)
            }
            (At::Name(section), b':') => {
                self.value.clear();
                section.less().map(At::Value)
            }
            (At::Name(section), _) => self.name(section, byte),
            (At::Value(section), b'\r') => {
                if section == Section::Head {
                    let (name, value) = (self.name, self.value);
                    self.note(name.get(), value.get());
                }
                section.less().map(At::ValueEnd)
            }
            (At::Value(section), _) => {
                match byte {
                    b'\n' => return Err(Doubt::LineEnd),
                    b' ' | b'\t' if self.value.length == 0 => {}
                    _ if is_control(byte) => return Err(Doubt::Control),
                    _ => self.value.push(byte),
                }
                section.less().map(At::Value)
            }
            (At::LineEnd, b'\n') => Ok(At::Start(Section::Head)),
            (At::ValueEnd(section), b'\n') => section.less().map(At::Start),
            (At::SectionEnd(Section::Trailers(_)), b'\n') => Ok(At::Between),
            (At::SectionEnd(Section::Head), b'\n') => self.content(),
            (At::LineEnd | At::ValueEnd(_) | At::SectionEnd(_), _) => Err(Doubt::LineEnd),
            (At::Size(size, digits), _) => match (byte, char::from(byte).to_digit(16)) {
                (_, Some(digit)) if digits < 16 => {
                    Ok(At::Size(size << 4 | u64::from(digit), digits + 1))
                }
                (b';', _) if digits > 0 => Ok(At::Extension(size, 0)),
                (b'\r', _) if digits > 0 => Ok(At::SizeEnd(size)),
                _ => Err(Doubt::Chunk),
            },
            (At::Extension(size, _), b'\r') => Ok(At::SizeEnd(size)),
            (At::Extension(size, length), _) => match length < EXTENSIONS && !is_control(byte) {
                true => Ok(At::Extension(size, length + 1)),
                false => Err(Doubt::Chunk),
            },
            (At::SizeEnd(0), b'\n') => Ok(At::Start(Section::Trailers(TRAILERS))),
            (At::SizeEnd(size), b'\n') => Ok(At::Chunk(size)),
            (At::ChunkEnd, b'\r') => Ok(At::ChunkEnded),
            (At::ChunkEnded, b'\n') => Ok(At::Size(0, 0)),
            _ => Err(Doubt::Chunk),
        }
    }

    fn line(&mut self, spaces: u8, byte: u8) -> Result<At, Doubt> {
        match byte {
            b'\r' if spaces == 2 && matches!(&self.version, b"HTTP/1.1" | b"HTTP/1.0") => {
                Ok(At::LineEnd)
            }
            b'\n' => Err(Doubt::LineEnd),
            // Two spaces part it in three, none of which is empty.
            b' ' if spaces == 0 => {
                self.is_target_empty = true;
                Ok(At::Line(1))
            }
            b' ' if spaces == 1 && !self.is_target_empty => Ok(At::Line(2)),
            b' ' => Err(Doubt::RequestLine),
            _ if byte.is_ascii_control() => Err(Doubt::RequestLine),
            _ => {
                self.is_target_empty = false;
                if spaces == 2 {
                    if self.version[0] != 0 {
                        // It has more than eight.
                        return Err(Doubt::RequestLine);
                    }
                    self.version.rotate_left(1);
                    self.version[7] = byte;
                }
                Ok(At::Line(spaces))
            }
        }
    }

    /// A byte of a name.
    fn name(&mut self, section: Section, byte: u8) -> Result<At, Doubt> {
        match byte {
            b'\n' => Err(Doubt::LineEnd),
            _ if !is_token(byte) => Err(Doubt::Name),
            _ => {
                self.name.push(byte);
                section.less().map(At::Name)
            }
        }
    }

    /// A field of the head has come.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths = self.lengths.saturating_add(1);
            let digits = Some(value).filter(|digits| digits.iter().all(u8::is_ascii_digit));
            let length = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            match length.filter(|_| value.len() < KEPT) {
                Some(length) => self.length = length,
                // As bad as two of them.
                None => self.lengths = u8::MAX,
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.codings = self.codings.saturating_add(1);
            if !value.eq_ignore_ascii_case(b"chunked") {
                self.codings = u8::MAX;
            }
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts = self.hosts.saturating_add(1);
        }
    }

    /// The head is at its end.
    fn content(&mut self) -> Result<At, Doubt> {
        match (self.lengths, self.codings, self.hosts) {
            (1.., 1.., _) => Err(Doubt::LengthAndCoding),
            (_, 2.., _) => Err(Doubt::Coding),
            (2.., _, _) => Err(Doubt::Length),
            (_, _, 2..) => Err(Doubt::Host),
            (_, 1, _) => Ok(At::Size(0, 0)),
            (1, _, _) if self.length > 0 => Ok(At::Content(self.length)),
            _ => Ok(At::Between),
        }
    }
}

impl Section {
    /// One byte less.
    fn less(self) -> Result<Self, Doubt> {
        match self {
            Section::Head => Ok(self),
            Section::Trailers(left) => left
                .checked_sub(1)
                .map(Section::Trailers)
                .ok_or(Doubt::Trailers),
        }
    }
}

/// How many bytes come that may be in a method or name.
fn name(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| is_token(**byte)).count()
}

/// The same of a target.
fn target(bytes: &[u8]) -> usize {
    let may_end = |eight| eights::below(eight, b' ' + 1) | eights::is(eight, 0x7f);
    eights::before(bytes, may_end, |byte| {
        KINDS[usize::from(byte)] & IN_LINE == 0
    })
}

/// The same of a value.
fn value(bytes: &[u8]) -> usize {
    let may_end = |eight| eights::below(eight, b' ') | eights::is(eight, 0x7f);
    eights::before(bytes, may_end, is_control)
}

/// What neither values nor extensions may have (RFC 9110 §5.5).
fn is_control(byte: u8) -> bool {
    KINDS[usize::from(byte)] & IN_VALUE == 0
}

/// Whether a byte may be part of a name (RFC 9110 §5.6.2).
pub fn is_token(byte: u8) -> bool {
    KINDS[usize::from(byte)] & IN_NAME != 0
}

/// Where a byte may be: in a target, in a method or name, in a value.
const IN_LINE: u8 = 1;
const IN_NAME: u8 = 2;
const IN_VALUE: u8 = 4;

/// Of each byte.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let control = byte < 0x20 || byte == 0x7f;
        if !control && byte != b' ' as usize {
            kinds[byte] |= IN_LINE;
        }
        if !control || byte == b'\t' as usize {
            kinds[byte] |= IN_VALUE;
        }
        let mark = matches!(
            byte as u8,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        if byte < 0x80 && ((byte as u8).is_ascii_alphanumeric() || mark) {
            kinds[byte] |= IN_NAME;
        }
        byte += 1;
    }
    kinds
};
