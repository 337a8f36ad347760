//! What the process takes of the machine, as the kernel tells (proc(5)).

use std::fs;

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Processor time, of its own and in the kernel.
    pub cpu_seconds: f64,
    /// Memory.
    pub resident_bytes: u64,
    /// Descriptors.
    pub open_files: u64,
}

/// Asks the kernel; `None` where it does not tell.
pub fn read() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may have anything in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let pages: u64 = fields.get(21)?.parse().ok()?;
    #[allow(clippy::cast_precision_loss)]
    let cpu_seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some(Usage {
        cpu_seconds,
        resident_bytes: pages * rustix::param::page_size() as u64,
        open_files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        let usage = read().unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.open_files > 2 && usage.cpu_seconds >= 0.0);
    }
}
