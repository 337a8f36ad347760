//! Dictionaries of structured fields (RFC 8941 §3.2), which targeted caching fields are (RFC 9213 §2.1).
//!
//! Only [`CacheControl::parse_targeted`](super::CacheControl::parse_targeted) calls it. Strict, unlike what is around
//! it: one wrong byte and the whole field is nothing, as RFC 8941 §1.2 wants it.

use super::Directive;

/// The members of a dictionary as directives, in order; `None` when it is none (RFC 8941 §4.2.2). `true` is a directive
/// without argument, and `false` is one that is not there. An integer is an argument; any other value is one that
/// cannot be read, which is an empty one. Parameters say nothing (RFC 9213 §2.1).
pub(super) fn parse(text: &[u8]) -> Option<Vec<Directive>> {
    let mut input = Input(text);
    let mut members: Vec<Directive> = Vec::new();
    input.skip(b" ");
    while !input.0.is_empty() {
        let name = input.key()?;
        let value = if input.take(b'=') {
            input.member()?
        } else {
            input.parameters()?;
            Value::True
        };
        // Of several members of one name the last counts, in the place of the first.
        let argument = match value {
            Value::True => Some(None),
            Value::False => None,
            Value::Integer(digits) => Some(Some(digits)),
            Value::Other => Some(Some(String::new())),
        };
        let known = members.iter().position(|member| member.name == name);
        match (argument, known) {
            (Some(argument), Some(place)) => members[place].argument = argument,
            (Some(argument), None) => members.push(Directive { name, argument }),
            (None, Some(place)) => {
                members.remove(place);
            }
            (None, None) => {}
        }
        input.skip(b" \t");
        if input.0.is_empty() {
            break;
        }
        if !input.take(b',') {
            return None;
        }
        input.skip(b" \t");
        // A comma with nothing after it.
        if input.0.is_empty() {
            return None;
        }
    }
    Some(members)
}

/// What a member says, as far as it matters here.
enum Value {
    True,
    False,
    Integer(String),
    Other,
}

/// What is left to read. The methods are the algorithms of RFC 8941 §4.2; `None` is a failure.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// Whether this byte came next; it is then gone.
    fn take(&mut self, byte: u8) -> bool {
        match self.0.strip_prefix(&[byte]) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn skip(&mut self, any_of: &[u8]) {
        self.take_while(|b| any_of.contains(&b));
    }

    fn take_while(&mut self, fits: impl Fn(u8) -> bool) -> String {
        let end = self.0.iter().position(|&b| !fits(b));
        let (taken, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        taken.iter().map(|&b| char::from(b)).collect()
    }

    /// §4.2.3.3.
    fn key(&mut self) -> Option<String> {
        let first = self.0.first()?;
        if !first.is_ascii_lowercase() && *first != b'*' {
            return None;
        }
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b);
        Some(self.take_while(fits))
    }

    /// An item or an inner list, with its parameters (§4.2.1.1).
    fn member(&mut self) -> Option<Value> {
        let value = if self.take(b'(') {
            self.inner_list()?;
            Value::Other
        } else {
            self.bare_item()?
        };
        self.parameters()?;
        Some(value)
    }

    /// §4.2.1.2, without the opening parenthesis.
    fn inner_list(&mut self) -> Option<()> {
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Some(());
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    /// §4.2.3.2.
    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.skip(b" ");
            self.key()?;
            if self.take(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    /// §4.2.3.1.
    fn bare_item(&mut self) -> Option<Value> {
        match self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'?' => self.boolean(),
            b':' => self.byte_sequence(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b);
                self.take_while(fits);
                Some(Value::Other)
            }
            _ => None,
        }
    }

    /// §4.2.4.
    fn number(&mut self) -> Option<Value> {
        let negative = self.take(b'-');
        let whole = self.take_while(|b| b.is_ascii_digit());
        if self.take(b'.') {
            let decimals = self.take_while(|b| b.is_ascii_digit());
            let fits = (1..=12).contains(&whole.len()) && (1..=3).contains(&decimals.len());
            return fits.then_some(Value::Other);
        }
        if !(1..=15).contains(&whole.len()) {
            return None;
        }
        Some(if negative {
            Value::Other
        } else {
            Value::Integer(whole)
        })
    }

    /// §4.2.5.
    fn string(&mut self) -> Option<Value> {
        self.next()?;
        loop {
            match self.next()? {
                b'"' => return Some(Value::Other),
                b'\\' if matches!(self.next()?, b'"' | b'\\') => {}
                b'\\' => return None,
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    /// §4.2.7.
    fn byte_sequence(&mut self) -> Option<Value> {
        self.next()?;
        self.take_while(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        self.take(b':').then_some(Value::Other)
    }

    /// §4.2.8.
    fn boolean(&mut self) -> Option<Value> {
        self.next()?;
        match self.next()? {
            b'1' => Some(Value::True),
            b'0' => Some(Value::False),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
