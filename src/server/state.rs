//! What is to outlive the process: the success of late of each route, and how far its canary has come, in one small file.
//!
//! Written beside and renamed, once a minute, when a canary goes on or is rolled back, and at the end. A file that cannot be
//! read costs the past, not the start.

use crate::policy::canary::{Figures, Memory, Rule, SideFigures};
use crate::policy::success::{Count, SPANS, Savings, Step};
use crate::policy::window::Totals;
use crate::proxy::{Live, Snapshot};
use crate::upstream::traffic::Traffic;
use log::{error, warn};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is written.
const EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether a canary has changed, which is not to be forgotten whatever happens next.
const LOOK: Duration = Duration::from_millis(500);
/// A file that is larger is none of ours.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// By the names of routes.
    routes: BTreeMap<String, Vec<Kept>>,
    #[serde(default)]
    canaries: Canaries,
}

/// By the names of routes.
type Canaries = BTreeMap<String, KeptCanary>;

/// How far a canary had come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptCanary {
    /// What the file said of it.
    plan: String,
    /// From 0.
    step: usize,
    rolled_back: Option<KeptVerdict>,
}

/// What a rollback went by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct KeptVerdict {
    rule: String,
    bound: Option<f64>,
    canary: KeptSide,
    stable: KeptSide,
}

/// Good ones, failed ones, and the 95th percentile of the latencies in nanoseconds.
type KeptSide = (u64, u64, Option<u64>);

impl KeptCanary {
    fn of(plan: String, memory: Memory) -> Self {
        let side = |side: SideFigures| {
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let Totals { good, failed } = side.outcomes;
            (good, failed, side.p95.map(nanos))
        };
        KeptCanary {
            plan,
            step: memory.step,
            rolled_back: memory.verdict.map(|figures| KeptVerdict {
                rule: figures.rule.word().to_string(),
                bound: figures.rule.bound(),
                canary: side(figures.canary),
                stable: side(figures.stable),
            }),
        }
    }

    /// None if it was rolled back by a rule that is not known here.
    fn memory(&self) -> Option<Memory> {
        let side = |(good, failed, p95): KeptSide| SideFigures {
            outcomes: Totals { good, failed },
            p95: p95.map(Duration::from_nanos),
        };
        let verdict = match &self.rolled_back {
            None => None,
            Some(kept) => Some(Figures {
                rule: Rule::of(&kept.rule, kept.bound)?,
                canary: side(kept.canary),
                stable: side(kept.stable),
            }),
        };
        Some(Memory {
            step: self.step,
            verdict,
        })
    }
}

/// A step: its span, when it began, requests, failed ones, tries, failed ones; and what saved requests, which files did not have
/// before.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    Now((String, u64, u64, u64, u64, u64, [u64; 3])),
    Before((String, u64, u64, u64, u64, u64)),
}

fn keep(step: Step) -> Kept {
    let count = step.count;
    let span = step.span.word().to_string();
    Kept::Now((
        span,
        step.began,
        count.requests,
        count.failed,
        count.tries,
        count.tries_failed,
        [count.saved.retry, count.saved.failover, count.saved.cache],
    ))
}

fn step(kept: &Kept) -> Option<Step> {
    let (span, began, requests, failed, tries, tries_failed, [retry, failover, cache]) = match kept
    {
        Kept::Now((span, began, requests, failed, tries, tries_failed, saved)) => {
            (span, began, requests, failed, tries, tries_failed, *saved)
        }
        Kept::Before((span, began, requests, failed, tries, tries_failed)) => {
            (span, began, requests, failed, tries, tries_failed, [0; 3])
        }
    };
    Some(Step {
        span: SPANS.into_iter().find(|s| s.word() == span)?,
        began: *began,
        count: Count {
            requests: *requests,
            failed: *failed,
            tries: *tries,
            tries_failed: *tries_failed,
            saved: Savings {
                retry,
                failover,
                cache,
            },
        },
    })
}

/// Takes in what an earlier process left.
pub fn restore(path: &Path, snapshot: &Snapshot) {
    let state = match read(path) {
        Ok(state) => state,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(e) => return warn!("what {} says of the past is lost: {e}", path.display()),
    };
    for traffic in &snapshot.traffic {
        let steps = state.routes.get(&traffic.route.name).into_iter().flatten();
        for step in steps.filter_map(step) {
            traffic.tally.restore(step);
        }
        let kept = state.canaries.get(&traffic.route.name);
        if let Some((kept, memory)) = kept.and_then(|kept| Some((kept, kept.memory()?))) {
            traffic.restore_split(&kept.plan, memory);
        }
    }
}

fn read(path: &Path) -> io::Result<State> {
    if std::fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::other("it is too large"));
    }
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Writes down how it is now.
///
/// # Errors
/// When that cannot be written.
pub fn save(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let route = |traffic: &Arc<Traffic>| {
        let steps: Vec<Kept> = traffic.tally.steps().into_iter().map(keep).collect();
        (!steps.is_empty()).then(|| (traffic.route.name.clone(), steps))
    };
    let state = State {
        routes: snapshot.traffic.iter().filter_map(route).collect(),
        canaries: canaries(snapshot),
    };
    // The last one, at the end, may come while another is under way.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let beside = beside(path);
    std::fs::write(&beside, serde_json::to_vec(&state)?)?;
    std::fs::rename(&beside, path)
}

fn canaries(snapshot: &Snapshot) -> Canaries {
    let memory = |traffic: &Arc<Traffic>| {
        let (plan, memory) = traffic.split_memory()?;
        Some((traffic.route.name.clone(), KeptCanary::of(plan, memory)))
    };
    snapshot.traffic.iter().filter_map(memory).collect()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Writes it again and again until the process ends.
pub async fn follow(path: PathBuf, live: Live) {
    let mut failing = false;
    let mut known = canaries(&live.load());
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let snapshot = live.load_full();
        let present = canaries(&snapshot);
        if present == known && last.elapsed() < EVERY {
            continue;
        }
        known = present;
        last = Instant::now();
        let path_there = path.clone();
        let saved = tokio::task::spawn_blocking(move || save(&path_there, &snapshot)).await;
        let saved = saved.map_err(io::Error::other).and_then(|saved| saved);
        match saved {
            Ok(()) => failing = false,
            Err(e) if !std::mem::replace(&mut failing, true) => {
                error!("state_file {} cannot be written: {e}", path.display());
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_before_are_read() {
        let count = Count {
            requests: 5,
            failed: 1,
            tries: 7,
            tries_failed: 3,
            saved: Savings {
                retry: 1,
                failover: 2,
                cache: 3,
            },
        };
        let [one, _, _, _] = SPANS;
        let written = Step {
            span: one,
            began: 60,
            count,
        };
        let now = serde_json::to_string(&keep(written)).unwrap();
        let read = |text: &str| step(&serde_json::from_str::<Kept>(text).unwrap()).unwrap();
        assert_eq!(read(&now), written);
        let before = read(r#"["5m", 60, 5, 1, 7, 3]"#);
        let count = Count {
            saved: Savings::default(),
            ..count
        };
        assert_eq!(before, Step { count, ..written });
    }
}
