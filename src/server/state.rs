//! What is to outlive the process: the success of late of each route, and how far its canary has come, in one small file.
//!
//! Written beside and renamed, once a minute, when a canary goes on or is rolled back, and at the end. A file that cannot be read costs the past, not the start.

use crate::policy::canary::Memory;
use crate::policy::success::{Count, SPANS, Step};
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

/// By the names of routes: what the file said of the canary, and how far it had come.
type Canaries = BTreeMap<String, (String, Memory)>;

/// A step: its span, when it began, requests, failed ones, tries, failed ones.
type Kept = (String, u64, u64, u64, u64, u64);

fn keep(step: Step) -> Kept {
    let count = step.count;
    let span = step.span.word().to_string();
    (
        span,
        step.began,
        count.requests,
        count.failed,
        count.tries,
        count.tries_failed,
    )
}

fn step(kept: &Kept) -> Option<Step> {
    let (span, began, requests, failed, tries, tries_failed) = kept;
    Some(Step {
        span: SPANS.into_iter().find(|s| s.word() == span)?,
        began: *began,
        count: Count {
            requests: *requests,
            failed: *failed,
            tries: *tries,
            tries_failed: *tries_failed,
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
        if let Some((plan, memory)) = state.canaries.get(&traffic.route.name) {
            traffic.restore_split(plan, memory.clone());
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
        let memory = traffic.split_memory()?;
        Some((traffic.route.name.clone(), memory))
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
