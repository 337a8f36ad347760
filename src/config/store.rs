//! `cache` of the static file, as written: where answers are kept, and how many.
//!
//! Read by `settings`. What is kept is said by each route: `cache`.

use super::keypath::KeyPath;
use super::patterns::DirectoryText;
use super::report::{Document, Report};
use super::size::Size;
use super::written::{Complaint, Written, meant, written};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Where answers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// How many bytes of them in memory; at least 1 MiB.
    pub memory: u64,
    /// What outlives a restart, if anything.
    pub disk: Option<DiskSettings>,
}

/// Answers on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSettings {
    /// The directory, which nothing else uses; absolute.
    pub path: PathBuf,
    /// How many bytes it may take; at least 16 MiB.
    pub max_size: u64,
    /// How many bytes of the file system stay free for others.
    pub min_free: u64,
}

/// `cache` of the static file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a mapping such as { memory: 64MiB }")]
pub(crate) struct StoreSpec {
    memory: Option<MemorySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<DirectoryText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size: Option<DiskSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_free: Option<Size>,
}

impl StoreSpec {
    const MEMORY: u64 = 64 << 20;
    const MAX_SIZE: u64 = 1 << 30;
    const MIN_FREE: u64 = 256 << 20;

    /// Reports what concerns the disk where there is none; `path` is that of this mapping.
    pub(crate) fn check(&self, document: Document, path: &KeyPath, report: &mut Report) {
        if self.path.is_some() {
            return;
        }
        let (size, free) = (self.max_size.is_some(), self.min_free.is_some());
        for (given, key) in [(size, "max_size"), (free, "min_free")] {
            if given {
                let problem = report.add(document, path.key(key), "has no effect without path");
                problem.help = Some("name the directory: path: /var/cache/backstop".to_string());
            }
        }
    }

    /// The settings with every default filled in; `absolute` makes a path one.
    pub(crate) fn compile(self, absolute: impl FnOnce(&str) -> PathBuf) -> CacheSettings {
        CacheSettings {
            memory: self.memory.map_or(Self::MEMORY, |size| size.0),
            disk: self.path.map(|path| DiskSettings {
                path: absolute(&path.0),
                max_size: self.max_size.map_or(Self::MAX_SIZE, |size| size.0),
                min_free: self.min_free.map_or(Self::MIN_FREE, |size| size.0),
            }),
        }
    }

    /// How the settings are written.
    pub(crate) fn of(settings: &CacheSettings) -> StoreSpec {
        let disk = settings.disk.as_ref();
        StoreSpec {
            memory: Some(StoreSize(settings.memory)),
            path: disk.map(|disk| DirectoryText(disk.path.to_string_lossy().into_owned())),
            max_size: disk.map(|disk| StoreSize(disk.max_size)),
            min_free: disk.map(|disk| Size(disk.min_free)),
        }
    }
}

/// A number of bytes to keep answers in, with the number of mebibytes below which it would be full at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StoreSize<const MEBIBYTES: u64>(u64);

type MemorySize = StoreSize<1>;
type DiskSize = StoreSize<16>;

impl<const MEBIBYTES: u64> StoreSize<MEBIBYTES> {
    const LEAST: u64 = MEBIBYTES << 20;
}

impl<const MEBIBYTES: u64> Written for StoreSize<MEBIBYTES> {
    const EXPECTED: &'static str = "a size such as 64MiB";

    fn parse(word: &str) -> Result<Self, Complaint> {
        match Size::parse(word) {
            Ok(Size(bytes)) if bytes >= Self::LEAST => Ok(StoreSize(bytes)),
            Ok(_) => {
                let least = Size(Self::LEAST);
                Err(Complaint::because(format!(
                    "this size must be at least {least}"
                )))
            }
            // Of a bare number a general size makes kibibytes.
            Err(Complaint { message: None, .. }) if word.bytes().all(|b| b.is_ascii_digit()) => {
                Err(Complaint {
                    message: None,
                    help: Self::meant_by_number(word),
                })
            }
            Err(complaint) => Err(complaint),
        }
    }

    fn meant_by_number(number: &str) -> Option<String> {
        match number.parse::<u64>() {
            Ok(0) | Err(_) => None,
            Ok(gibibytes) if gibibytes < MEBIBYTES => Some(meant(format_args!("{gibibytes}GiB"))),
            Ok(mebibytes) if mebibytes < 1 << 20 => Some(meant(format_args!("{mebibytes}MiB"))),
            Ok(bytes) => (bytes >= Self::LEAST).then(|| meant(Size(bytes))),
        }
    }
}

impl<const MEBIBYTES: u64> fmt::Display for StoreSize<MEBIBYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Size(self.0).fmt(f)
    }
}

written!(MemorySize, DiskSize);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> CacheSettings {
        let spec: StoreSpec = serde_yaml::from_str(text).unwrap();
        spec.compile(|path| PathBuf::from("/etc").join(path))
    }

    #[test]
    fn defaults_and_what_is_shown() {
        assert_eq!(
            settings("{}"),
            CacheSettings {
                memory: 64 << 20,
                disk: None
            }
        );
        let disk = DiskSettings {
            path: "/etc/answers".into(),
            max_size: 1 << 30,
            min_free: 256 << 20,
        };
        assert_eq!(settings("{ path: answers/ }").disk, Some(disk));
        for text in [
            "{}",
            "{ memory: 5MB }",
            "{ path: answers }",
            "{ path: /a, max_size: 16MiB, min_free: 0B }",
        ] {
            let shown = serde_yaml::to_string(&StoreSpec::of(&settings(text))).unwrap();
            assert_eq!(settings(&shown), settings(text), "{shown}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(MemorySize::parse("1MiB"), Ok(StoreSize(1 << 20)));
        assert_eq!(DiskSize::parse("16MiB"), Ok(StoreSize(16 << 20)));
        let help = |complaint: Complaint| complaint.help;
        for (text, memory, disk) in [
            ("1023KiB", None, None),
            ("0B", None, None),
            (
                "64",
                Some("did you mean 64MiB?"),
                Some("did you mean 64MiB?"),
            ),
            (
                "10",
                Some("did you mean 10MiB?"),
                Some("did you mean 10GiB?"),
            ),
            (
                "67108864",
                Some("did you mean 64MiB?"),
                Some("did you mean 64MiB?"),
            ),
            ("1048576", Some("did you mean 1MiB?"), None),
            (
                "64M",
                Some("did you mean 64MiB?"),
                Some("did you mean 64MiB?"),
            ),
            ("0", None, None),
            ("much", None, None),
            ("", None, None),
        ] {
            let found = MemorySize::parse(text).map_err(help).unwrap_err();
            assert_eq!(found.as_deref(), memory, "{text}");
            let found = DiskSize::parse(text).map_err(help).unwrap_err();
            assert_eq!(found.as_deref(), disk, "{text}");
        }
        assert!(DiskSize::parse("15MiB").is_err());
    }
}
