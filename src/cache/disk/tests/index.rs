//! The table, against a simple model.

use super::super::Id;
use super::super::index::{Found, Table};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Insert(u64, u32),
    Remove(u64),
    Touch(u64),
    EvictOldest,
    Relist(Vec<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..40_u64, 1..100_u32).prop_map(|(n, units)| Step::Insert(n, units)),
        2 => (0..40_u64).prop_map(Step::Remove),
        4 => (0..40_u64).prop_map(Step::Touch),
        1 => Just(Step::EvictOldest),
        1 => prop::collection::vec(0..40_u64, 0..40).prop_map(Step::Relist),
    ]
}

fn id(n: u64) -> Id {
    Id {
        url: n % 3,
        who: n % 2,
        variant: n,
    }
}

proptest! {
    #[test]
    fn a_table_does_what_a_map_does(steps in prop::collection::vec(step(), 0..200)) {
        let mut table = Table::default();
        let mut model: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
        let (mut objects, mut units) = (0, 0);
        for (step, now) in steps.into_iter().zip(1000..) {
            let change = match step {
                Step::Insert(n, units) => {
                    model.insert(n, (units, now));
                    table.insert(id(n), units, now)
                }
                Step::Remove(n) => {
                    model.remove(&n);
                    table.remove(id(n))
                }
                Step::Touch(n) => {
                    let known = model.get_mut(&n).map(|object| object.1 = now).is_some();
                    prop_assert_eq!(table.touch(id(n), now).is_some(), known);
                    Default::default()
                }
                Step::EvictOldest => {
                    let oldest = model.iter().min_by_key(|(_, (_, used))| *used);
                    let oldest = oldest.map(|(n, (units, used))| (*n, *units, *used));
                    let got = table.oldest().map(|node| (node.id.variant, node.units, node.used));
                    prop_assert_eq!(got, oldest);
                    prop_assert_eq!(table.oldest_use(), oldest.map_or(u64::MAX, |o| o.2));
                    match oldest {
                        Some((n, ..)) => {
                            model.remove(&n);
                            table.remove(id(n))
                        }
                        None => Default::default(),
                    }
                }
                Step::Relist(mut there) => {
                    there.sort_unstable();
                    there.dedup();
                    table.begin_listing();
                    model.retain(|n, _| there.contains(n));
                    let found = there.iter().map(|&n| {
                        // Times from before the test began, all different.
                        let object = model.entry(n).or_insert((7, n));
                        Found { id: id(n), units: object.0, used: n }
                    });
                    let found = found.collect();
                    table.merge(found, true, now)
                }
            };
            objects += change.objects;
            units += change.units;
            prop_assert_eq!(objects, model.len() as i64);
            prop_assert_eq!(units, model.values().map(|(units, _)| i64::from(*units)).sum::<i64>());
            prop_assert_eq!(table.len(), model.len());
            for (n, (units, used)) in &model {
                let node = table.get(id(*n)).unwrap();
                prop_assert_eq!((node.units, node.used), (*units, *used));
            }
            for (url, who) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
                let got: Vec<u64> = table.candidates(url, who).iter().map(|n| n.id.variant).collect();
                let mut expected: Vec<(u64, u64)> = model.iter()
                    .filter(|(n, _)| id(**n).url == url && id(**n).who == who)
                    .map(|(n, (_, used))| (u64::MAX - used, *n))
                    .collect();
                expected.sort_unstable();
                let expected: Vec<u64> = expected.into_iter().map(|(_, n)| n).collect();
                prop_assert_eq!(got, expected);
            }
        }
        // The whole order, at last.
        let mut order = Vec::new();
        while let Some(node) = table.oldest() {
            order.push(node.used);
            table.remove(node.id);
        }
        let mut expected: Vec<u64> = model.values().map(|(_, used)| *used).collect();
        expected.sort_unstable();
        prop_assert_eq!(order, expected);
    }
}

/// As many as a table has of a million: found on the disk, and come one by one.
#[test]
fn an_object_takes_little_memory() {
    let id = |n| Id {
        url: n,
        who: n,
        variant: n,
    };
    let mut listed = Table::default();
    listed.begin_listing();
    let found = (0..244).map(|n| Found {
        id: id(n),
        units: 1,
        used: n,
    });
    listed.merge(found.collect(), true, 1000);
    let mut grown = Table::default();
    for n in 0..244 {
        grown.insert(id(n), 1, n);
    }
    let each = [listed.memory() / 244, grown.memory() / 244];
    assert!(each.iter().all(|bytes| *bytes < 64), "{each:?}");
    assert_eq!(size_of::<super::super::index::Node>(), 48);
    for n in 0..200 {
        grown.remove(id(n));
    }
    grown.begin_listing();
    grown.merge(vec![], false, 1000);
    assert!(grown.memory() < 44 * 100, "{}", grown.memory());
}

#[test]
fn what_changes_during_a_listing_is_not_overruled_by_it() {
    let found = |n, used| Found {
        id: id(n),
        units: 5,
        used,
    };
    let mut table = Table::default();
    for n in 0..4 {
        table.insert(id(n), 1, 100 + n);
    }
    table.begin_listing();
    table.remove(id(0));
    table.insert(id(1), 2, 200);
    table.insert(id(9), 3, 201);
    // 0 was seen before it went, 9 not yet; 3 went by another's hand; 7 came by it.
    table.merge(
        vec![found(0, 50), found(1, 50), found(2, 50), found(7, 50)],
        true,
        300,
    );
    let mut all: Vec<(u64, u32)> = [0, 1, 2, 3, 7, 9]
        .into_iter()
        .filter_map(|n| table.get(id(n)).map(|node| (n, node.units)))
        .collect();
    all.sort_unstable();
    assert_eq!(all, [(1, 2), (2, 5), (7, 5), (9, 3)]);
    assert_eq!(table.oldest().unwrap().id, id(7));
    // A listing that failed in the middle says nothing of what it did not show.
    table.begin_listing();
    table.merge(vec![], false, 300);
    assert_eq!(table.len(), 4);
    // What another process used is newer than we knew; what comes from the future is not.
    table.begin_listing();
    table.merge(vec![found(7, 250), found(2, u64::MAX)], false, 300);
    assert_eq!(table.oldest().unwrap().id, id(1));
    assert_eq!(table.get(id(2)).unwrap().used, 300);
}
