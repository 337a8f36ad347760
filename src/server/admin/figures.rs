//! The cache in figures: as JSON for programs, as a table for people.

use crate::cache::Status;
use crate::cache::fills::Ends;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The memory tier.
    pub memory: Memory,
    /// The files, where there are any.
    pub disk: Option<Disk>,
    /// Fills under way whose answer has not begun to come.
    pub fills: u64,
    /// How fills have ended since the start.
    pub fills_ended: Ends<u64>,
}

/// The memory tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Answers.
    pub objects: u64,
    /// What they take.
    pub bytes: u64,
    /// What they may take.
    pub limit_bytes: u64,
    /// Answers that had to make room since the start.
    pub evicted: u64,
}

/// The files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Answers.
    pub objects: u64,
    /// What they take.
    pub bytes: u64,
    /// What they may take.
    pub limit_bytes: u64,
    /// Answers that had to make room since the start.
    pub evicted: u64,
    /// Files with wrong contents since the start.
    pub corrupt: u64,
    /// Failures of the disk since the start.
    pub errors: u64,
    /// How much of the directory was looked through since the start.
    pub indexed_percent: u8,
    /// Set while nothing is written.
    pub off: Option<Off>,
}

/// That nothing is written to the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Off {
    /// Since when, as RFC 3339 writes it.
    pub since: String,
    /// Why.
    pub why: String,
}

impl From<Status> for Figures {
    fn from(status: Status) -> Self {
        Figures {
            memory: Memory {
                objects: status.memory.objects,
                bytes: status.memory.bytes,
                limit_bytes: status.memory.limit,
                evicted: status.memory.evicted,
            },
            disk: status.disk.map(|disk| Disk {
                objects: disk.objects,
                bytes: disk.bytes,
                limit_bytes: disk.max_size,
                evicted: disk.evicted,
                corrupt: disk.corrupt,
                errors: disk.errors,
                indexed_percent: disk.indexed,
                off: disk.off.map(|(since, why)| Off {
                    since: date(since),
                    why,
                }),
            }),
            fills: status.fills,
            fills_ended: status.fills_ended,
        }
    }
}

fn date(since: Duration) -> String {
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    // Fails only for years after 9999.
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |at| at.to_string())
}

/// The table.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (memory, disk) = (&self.memory, self.disk.as_ref());
        let number = |n: u64| n.to_string();
        let mut row = |name: &str, memory: String, of_disk: Option<String>| {
            let of_disk = of_disk
                .map(|text| format!("{text:>12}"))
                .unwrap_or_default();
            let line = format!("{name:<8}{memory:>12}{of_disk}");
            writeln!(f, "{}", line.trim_end())
        };
        row("", "memory".into(), disk.map(|_| "disk".into()))?;
        row(
            "objects",
            number(memory.objects),
            disk.map(|d| number(d.objects)),
        )?;
        row("size", size(memory.bytes), disk.map(|d| size(d.bytes)))?;
        row(
            "limit",
            size(memory.limit_bytes),
            disk.map(|d| size(d.limit_bytes)),
        )?;
        row(
            "evicted",
            number(memory.evicted),
            disk.map(|d| number(d.evicted)),
        )?;
        row("fills", number(self.fills), None)?;
        let ended = &self.fills_ended;
        row(" stored", number(ended.stored), None)?;
        row(" valid", number(ended.validated), None)?;
        row(" passed", number(ended.not_stored), None)?;
        row(" failed", number(ended.failed), None)?;
        let Some(disk) = disk else {
            return Ok(());
        };
        row("corrupt", String::new(), Some(number(disk.corrupt)))?;
        row("errors", String::new(), Some(number(disk.errors)))?;
        row(
            "indexed",
            String::new(),
            Some(format!("{}%", disk.indexed_percent)),
        )?;
        match &disk.off {
            Some(off) => writeln!(
                f,
                "\nnothing is written to the disk since {}: {}",
                off.since, off.why
            ),
            None => Ok(()),
        }
    }
}

/// With one decimal, in the unit that leaves fewer than four digits before it.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Exact to 53 bits, which is far more than is shown.
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // What would be shown as 1024.0.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (64 << 20, "64.0 MiB"),
            (10 << 30, "10.0 GiB"),
            (3000 << 40, "3000.0 TiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn the_table() {
        let mut figures = Figures {
            memory: Memory {
                objects: 12,
                bytes: 1536,
                limit_bytes: 64 << 20,
                evicted: 0,
            },
            disk: None,
            fills: 3,
            fills_ended: Ends {
                stored: 40,
                validated: 30,
                not_stored: 20,
                failed: 2,
            },
        };
        let memory_only = "              memory
objects           12
size         1.5 KiB
limit       64.0 MiB
evicted            0
fills              3
 stored           40
 valid            30
 passed           20
 failed            2
";
        assert_eq!(figures.to_string(), memory_only);
        figures.disk = Some(Disk {
            objects: 1234,
            bytes: 4096,
            limit_bytes: 1 << 30,
            evicted: 5,
            corrupt: 6,
            errors: 7,
            indexed_percent: 89,
            off: Some(Off {
                since: date(Duration::from_secs(1_000_000_000)),
                why: "full".into(),
            }),
        });
        let both = "              memory        disk
objects           12        1234
size         1.5 KiB     4.0 KiB
limit       64.0 MiB     1.0 GiB
evicted            0           5
fills              3
 stored           40
 valid            30
 passed           20
 failed            2
corrupt                        6
errors                         7
indexed                      89%

nothing is written to the disk since 2001-09-09T01:46:40Z: full
";
        assert_eq!(figures.to_string(), both);
    }
}
