//! The store.

use super::super::Scene;
use super::super::figures::Figures;
use crate::observe::exposition::{Exposition, Kind, Labels};

/// Writes what is stored, and what was done for it.
pub(super) fn write(scene: &Scene, all: &mut Exposition) {
    let figures = Figures::from(scene.shared.cache.status());
    let memory = (
        "memory",
        figures.memory.objects,
        figures.memory.bytes,
        figures.memory.limit_bytes,
        figures.memory.evicted,
    );
    let disk = figures.disk.as_ref();
    let disk = disk.map(|d| ("disk", d.objects, d.bytes, d.limit_bytes, d.evicted));
    let tiers: Vec<_> = [Some(memory), disk].into_iter().flatten().collect();
    let mut one =
        |name: &str, kind, help: &str, number: fn(&(&'static str, u64, u64, u64, u64)) -> u64| {
            let mut family = all.family(name, kind, help);
            for tier in &tiers {
                family.sample(&[("tier", tier.0)], number(tier));
            }
        };
    one(
        "backstop_cache_objects",
        Kind::Gauge,
        "Stored answers.",
        |t| t.1,
    );
    one(
        "backstop_cache_bytes",
        Kind::Gauge,
        "What they take.",
        |t| t.2,
    );
    one(
        "backstop_cache_limit_bytes",
        Kind::Gauge,
        "What they may take.",
        |t| t.3,
    );
    one(
        "backstop_cache_evicted",
        Kind::Counter,
        "Answers that had to make room.",
        |t| t.4,
    );
    if let Some(disk) = &figures.disk {
        let plain: Labels<'_> = &[];
        all.family(
            "backstop_cache_disk_corrupt_files",
            Kind::Counter,
            "Files with wrong contents.",
        )
        .sample(plain, disk.corrupt);
        all.family(
            "backstop_cache_disk_errors",
            Kind::Counter,
            "Failures of the disk.",
        )
        .sample(plain, disk.errors);
        let off = u8::from(disk.off.is_some());
        all.family(
            "backstop_cache_disk_off",
            Kind::Gauge,
            "Whether nothing is written at this time.",
        )
        .sample(plain, off);
    }
    all.family(
        "backstop_cache_fills",
        Kind::Gauge,
        "Fills under way whose answer has not begun to come.",
    )
    .sample(&[], figures.fills);
    let ended = &figures.fills_ended;
    let mut family = all.family(
        "backstop_cache_fills_ended",
        Kind::Counter,
        "Fills whose answer has come or will not, by what it was; stored from its head on.",
    );
    for (result, count) in [
        ("stored", ended.stored),
        ("validated", ended.validated),
        ("not_stored", ended.not_stored),
        ("failed", ended.failed),
    ] {
        family.sample(&[("result", result)], count);
    }
}
