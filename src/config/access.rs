//! `allow`, `deny` and `trusted_proxies`, as written: addresses and blocks of them.
//!
//! Read by `routes` and `settings`.

use super::fault::quoted;
use super::files;
use super::patterns::FileText;
use super::written::{Complaint, Written, meant, written};
use crate::policy::access::{Access, AddressSet, Block};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `10.0.0.0/8`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockText {
    address: IpAddr,
    bits: u8,
    block: Block,
}

impl Written for BlockText {
    const EXPECTED: &'static str = "an IP address or a block of them such as 10.0.0.0/8";

    fn parse(word: &str) -> Result<Self, Complaint> {
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (word, None),
        };
        let address: IpAddr = address.parse().map_err(|_| Complaint::unfit())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let digits = |bits: &&str| bits.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits {
            None => width,
            Some(bits) => Some(bits)
                .filter(digits)
                .and_then(|bits| bits.parse().ok())
                .ok_or_else(Complaint::unfit)?,
        };
        let Some(block) = Block::new(address, bits) else {
            return Err(Complaint::because(format!(
                "an address of this kind has {width} bits, not {bits}"
            )));
        };
        if !block.begins_with(address) {
            let complaint = Complaint::because(format!("{word} is not the beginning of a block"));
            return Err(complaint.or(meant(first(address, bits))));
        }
        Ok(BlockText {
            address,
            bits,
            block,
        })
    }
}

/// The block that an address is in, as it is written.
fn first(address: IpAddr, bits: u8) -> String {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            format!(
                "{}/{bits}",
                std::net::Ipv4Addr::from_bits(v4.to_bits() & mask)
            )
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            format!(
                "{}/{bits}",
                std::net::Ipv6Addr::from_bits(v6.to_bits() & mask)
            )
        }
    }
}

impl fmt::Display for BlockText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

written!(BlockText);

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// Addresses.
    Block(BlockText),
    /// A file with more of them.
    File(String),
}

/// An entry that is no word.
#[derive(Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping such as { file: denied.txt }"
)]
struct FileEntry {
    file: FileText,
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Entry::Block(block) => block.serialize(s),
            Entry::File(file) => FileEntry {
                file: FileText(file.clone()),
            }
            .serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or {{ file: denied.txt }}", BlockText::EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Entry, E> {
        let word = serde::de::value::StrDeserializer::<E>::new(word);
        BlockText::deserialize(word).map(Entry::Block)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        let file = FileEntry::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(Entry::File(file.file.0))
    }
}

/// The lists of a document: each file is read once, and the same list is kept once.
pub(crate) struct Lists<'a> {
    directory: &'a Path,
    files: HashMap<String, Vec<Block>>,
    sets: HashMap<Vec<Entry>, Arc<AddressSet>>,
}

impl<'a> Lists<'a> {
    /// Of a document in this directory.
    pub(crate) fn new(directory: &'a Path) -> Self {
        Lists {
            directory,
            files: HashMap::new(),
            sets: HashMap::new(),
        }
    }

    /// Reads the files of a list; says of each what is wrong, with the place of its entry.
    pub(crate) fn read(&mut self, list: &[Entry], mut complain: impl FnMut(usize, String)) {
        for (i, entry) in list.iter().enumerate() {
            let Entry::File(name) = entry else { continue };
            if self.files.contains_key(name) {
                continue;
            }
            let path = files::absolute(self.directory, name);
            let blocks = match std::fs::read_to_string(&path) {
                Ok(text) => blocks(&text, |line, why| {
                    complain(i, format!("{name}:{line}: {why}"))
                }),
                Err(e) => {
                    complain(i, format!("{name}: {e}"));
                    Vec::new()
                }
            };
            self.files.insert(name.clone(), blocks);
        }
    }

    /// The addresses of a list whose files were read.
    pub(crate) fn set(&mut self, list: &[Entry]) -> Arc<AddressSet> {
        if let Some(set) = self.sets.get(list) {
            return set.clone();
        }
        let of = |entry: &Entry| match entry {
            Entry::Block(text) => vec![text.block],
            Entry::File(name) => self.files.get(name).cloned().unwrap_or_default(),
        };
        let set = Arc::new(AddressSet::new(list.iter().flat_map(of).collect()));
        self.sets.insert(list.to_vec(), set.clone());
        set
    }

    /// The rules that two lists make.
    pub(crate) fn access(&mut self, allow: Option<&[Entry]>, deny: Option<&[Entry]>) -> Access {
        Access {
            allow: allow.map(|list| self.set(list)),
            deny: self.set(deny.unwrap_or_default()),
        }
    }
}

/// The same list, its files being absolute.
pub(crate) fn within(list: Vec<Entry>, absolute: impl Fn(&str) -> PathBuf) -> Vec<Entry> {
    let entry = |entry| match entry {
        Entry::File(name) => Entry::File(absolute(&name).to_string_lossy().into_owned()),
        block => block,
    };
    list.into_iter().map(entry).collect()
}

/// The addresses in a file: one address or block a line, `#` before what is for its readers.
fn blocks(text: &str, mut complain: impl FnMut(usize, String)) -> Vec<Block> {
    /// Lines after which no more is said: the file is another one.
    const ENOUGH: usize = 10;
    let (mut blocks, mut wrong) = (Vec::new(), 0);
    for (i, line) in text.lines().enumerate() {
        let word = line.split('#').next().unwrap_or_default().trim();
        if word.is_empty() {
            continue;
        }
        match BlockText::parse(word) {
            Ok(text) => blocks.push(text.block),
            Err(complaint) => {
                wrong += 1;
                if wrong > ENOUGH {
                    break;
                }
                let why = complaint.message.unwrap_or_else(|| {
                    format!("expected {}, found {}", BlockText::EXPECTED, quoted(word))
                });
                let help = complaint.help.map(|help| format!(" ({help})"));
                complain(i + 1, why + &help.unwrap_or_default());
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_lines_are_read_and_found_soon() {
        use std::fmt::Write;
        use std::time::{Duration, Instant};
        let mut text = String::new();
        for n in 0..100_000_u32 {
            // Every second block of 16 addresses, so that none can be joined.
            let first = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 32);
            writeln!(text, "{first}/28 # number {n}").unwrap();
        }
        let began = Instant::now();
        let set = AddressSet::new(blocks(&text, |line, why| panic!("{line}: {why}")));
        let loading = began.elapsed();
        let address = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0b00_0000 + n));
        let began = Instant::now();
        for n in 0..100_000 {
            assert!(set.contains(address(n * 32 + n % 16)));
            assert!(!set.contains(address(n * 32 + 16 + n % 16)));
        }
        let each = began.elapsed() / 200_000;
        eprintln!("loaded in {loading:?}, {each:?} for each lookup");
        // Unoptimised, beside other tests.
        assert!(loading < Duration::from_secs(5), "{loading:?}");
        assert!(each < Duration::from_micros(20), "{each:?}");
    }

    #[test]
    fn wrong_lines_are_named() {
        let mut said = Vec::new();
        let text = "# ours\n10.0.0.0/8\n\n10.0.0.1/8\n192.0.2.1 # one\nhere\n";
        let read = blocks(text, |line, why| said.push((line, why)));
        assert_eq!(read.len(), 2);
        let lines: Vec<usize> = said.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [4, 6]);
        assert!(said[0].1.contains("did you mean 10.0.0.0/8?"), "{said:?}");
        let mut count = 0;
        blocks(&"x\n".repeat(1000), |_, _| count += 1);
        assert_eq!(count, 10);
    }

    #[test]
    fn blocks_as_they_are_written() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(BlockText::parse(text).unwrap().to_string(), shown);
        }
        for (text, help) in [
            ("10.0.0.1/8", Some("did you mean 10.0.0.0/8?")),
            ("2001:db8::1/64", Some("did you mean 2001:db8::/64?")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/+8", None),
            ("10.0.0/8", None),
            ("localhost", None),
            ("", None),
        ] {
            let complaint = BlockText::parse(text).unwrap_err();
            assert_eq!(complaint.help.as_deref(), help, "{text}");
        }
    }
}
