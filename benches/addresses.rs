//! What it costs to find an address among many: 100,000 blocks are to take less than 200 ns.
//!
//! `cargo bench --bench addresses` runs it. It measures `policy::access` alone, with addresses of which half are found.

use backstop::policy::access::{AddressSet, Block};
use divan::{Bencher, black_box};
use std::cell::Cell;
use std::net::IpAddr;

fn main() {
    divan::main();
}

const SIZES: [u32; 3] = [100, 10_000, 100_000];

/// So many blocks of 32 addresses, each followed by as many that are not in it.
fn set(blocks: u32) -> AddressSet {
    let block = |n: u32| Block::new(IpAddr::from((0x0a00_0000 + n * 64).to_be_bytes()), 27);
    AddressSet::new((0..blocks).filter_map(block).collect())
}

/// In no order that a processor could guess; so many at once that neither the clock nor what is in no cache yet matters.
#[divan::bench(args = SIZES, sample_size = 100_000)]
fn contains(bencher: Bencher, blocks: u32) {
    let (set, next) = (set(blocks), Cell::new(1_u32));
    bencher.bench_local(|| {
        let n = next
            .get()
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        next.set(n);
        let at = (u64::from(n) * u64::from(blocks * 64)) >> 32;
        let address = 0x0a00_0000 + u32::try_from(at).unwrap_or(0);
        black_box(set.contains(IpAddr::from(address.to_be_bytes())))
    });
}

/// What a reload pays.
#[divan::bench(args = SIZES)]
fn building(blocks: u32) -> AddressSet {
    set(blocks)
}
