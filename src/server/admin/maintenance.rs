//! What an operator does to the running configuration: drain a backend, resume it, resume a canary.
//!
//! In memory only: the next reload puts in force what the file says.

use crate::proxy::Snapshot;
use log::info;
use serde::{Deserialize, Serialize};

/// The body of `POST /backends/drain` and `/backends/resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichBackend {
    /// Its address as in the file.
    pub backend: String,
    /// Only in this upstream; else in all that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
}

/// The body of `POST /canary/resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhichCanary {
    /// The route's name; else every canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// To how many backends or canaries.
    pub changed: usize,
}

/// Takes a backend out of rotation, or back in.
///
/// # Errors
/// When there is none like that.
pub fn drain(snapshot: &Snapshot, which: &WhichBackend, out: bool) -> Result<Done, String> {
    let (mut changed, mut fixed) = (0, None);
    let upstreams = snapshot.upstreams.iter();
    for upstream in upstreams.filter(|u| which.upstream.as_ref().is_none_or(|n| *n == u.name)) {
        for (i, backend) in upstream.backends.iter().enumerate() {
            if backend.label == which.backend {
                if !out && upstream.is_withdrawn_by_file(i) {
                    fixed = Some(&upstream.name);
                    continue;
                }
                backend.standing.drain(out);
                changed += 1;
                let what = if out { "drained" } else { "resumed" };
                info!("backend {} of {} is {what}", backend.label, upstream.name);
            }
        }
    }
    if changed > 0 {
        return Ok(Done { changed });
    }
    if let Some(name) = fixed {
        let which = &which.backend;
        return Err(format!(
            "the file says that {which} of {name} is out of rotation: take its state: away there, and reload"
        ));
    }
    let known: Vec<&str> = snapshot
        .upstreams
        .iter()
        .flat_map(|u| u.backends.iter().map(|b| b.label.as_str()))
        .take(12)
        .collect();
    let known = known.join(", ");
    Err(match &which.upstream {
        Some(name) => format!("upstream {name} has no backend {}", which.backend),
        None => format!("there is no backend {} (there are: {known})", which.backend),
    })
}

/// Begins canaries anew that were rolled back.
///
/// # Errors
/// When there is none.
pub fn resume_canary(snapshot: &Snapshot, which: &WhichCanary) -> Result<Done, String> {
    let named = snapshot
        .traffic
        .iter()
        .filter(|t| which.route.as_ref().is_none_or(|n| *n == t.route.name));
    let changed = named.filter(|traffic| traffic.resume()).count();
    match (changed, &which.route) {
        (0, Some(name)) => Err(format!("no route {name} has a canary that was rolled back")),
        (0, None) => Err("no canary was rolled back".to_string()),
        (changed, _) => Ok(Done { changed }),
    }
}
