//! The status as tables, for a terminal.

use super::status::{
    CanaryStatus, Doing, MaskedStatus, PlacesStatus, SideStatus, Status, SuccessStatus,
};
use std::fmt;

/// `95 saved: 60 by another backend, 30 by another try, 5 by a stored answer`.
impl fmt::Display for MaskedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} saved", self.sum())?;
        let ways = [
            ("another backend", self.failover),
            ("another try", self.retry),
            ("a stored answer", self.cache),
        ];
        let used = ways.into_iter().filter(|(_, count)| *count > 0);
        for (number, (what, count)) in used.enumerate() {
            let before = if number == 0 { ": " } else { ", " };
            write!(f, "{before}{count} by {what}")?;
        }
        Ok(())
    }
}

/// What clients have written, with nothing in it that a terminal could take for a command.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for char in self.0.chars() {
            match char {
                ' '..='~' => f.write_char(char)?,
                char => write!(f, "{}", char.escape_unicode())?,
            }
        }
        Ok(())
    }
}

/// How many failures are in the table; JSON and page have all that are remembered.
const SHOWN_FAILURES: usize = 10;

/// The tables.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = &self.process;
        let drains = if process.draining { "; DRAINING" } else { "" };
        writeln!(
            f,
            "backstop {}, running for {}, {} connections; configuration {}, in force for {}{drains}",
            process.version,
            ago(process.uptime_s * 1000),
            process.connections,
            self.configuration,
            ago(process.configured_s * 1000)
        )?;
        if let Some(error) = &self.process.reload_error {
            writeln!(f, "the last reload failed: {error}")?;
        }
        let asked = || self.success.iter().filter(|s| s.requests > 0);
        if asked().next().is_some() {
            writeln!(f, "\nsuccess")?;
        }
        for success in asked() {
            writeln!(f, "  {success}")?;
        }
        for upstream in &self.upstreams {
            let down = if upstream.down { "  DOWN" } else { "" };
            writeln!(f, "\nupstream {}{down}", upstream.name)?;
            writeln!(
                f,
                "  {:<24} {:<12} {:>7} {:>10} {:>9} {:>9}  last failure",
                "backend", "state", "active", "tries", "failed", "median"
            )?;
            for backend in &upstream.backends {
                let median = backend
                    .median_ms
                    .map_or_else(|| "-".to_string(), |ms| format!("{ms} ms"));
                let failure = match &backend.last_failure {
                    Some(last) => format!("{} ({} ago)", last.what, ago(last.ago_ms)),
                    None => "-".to_string(),
                };
                writeln!(
                    f,
                    "  {:<24} {:<12} {:>7} {:>10} {:>9} {:>9}  {failure}",
                    backend.address,
                    backend.state,
                    backend.active,
                    backend.tries,
                    backend.failures,
                    median
                )?;
            }
            if let Some(places) = &upstream.concurrency {
                writeln!(f, "  {places}")?;
            }
        }
        for route in &self.routes {
            writeln!(f, "\nroute {}", route.name)?;
            if let Some(success) = route.success.first().filter(|s| s.requests > 0) {
                writeln!(f, "  success {success}")?;
            }
            if route.action != Doing::Proxy {
                continue;
            }
            writeln!(
                f,
                "  {} requests and {} retries in 10 s; {} retries in all, {} refused by the budget",
                route.requests, route.retries, route.retries_total, route.retries_refused_total
            )?;
            if let Some(hedged) = route.hedged_total {
                writeln!(f, "  {hedged} sent twice")?;
            }
            if let Some(places) = &route.concurrency {
                writeln!(f, "  {places}")?;
            }
            if let Some(refused) = route.rate_limited {
                writeln!(f, "  rate limit: {refused} refused")?;
            }
            if let Some(canary) = &route.canary {
                writeln!(f, "  {canary}")?;
            }
        }
        if !self.failures.is_empty() {
            writeln!(f, "\nfailures, the last first")?;
        }
        for failure in self.failures.iter().take(SHOWN_FAILURES) {
            writeln!(
                f,
                "  {} {} {} ({}) {}; tries: {}; no further one: {}",
                failure.time,
                failure.status,
                Plain(&failure.request),
                failure.route,
                failure.request_id,
                match failure.tries.is_empty() {
                    true => "-".to_string(),
                    false => failure.tries.join(", "),
                },
                failure.reason.as_deref().unwrap_or("-")
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for SuccessStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share =
            |share: Option<f64>| share.map_or_else(|| "-".to_string(), |p| format!("{p} %"));
        write!(
            f,
            "{}: {} for clients, {} at the upstream",
            self.window,
            share(self.client_percent),
            share(self.upstream_percent)
        )?;
        if let Some(used) = self.slo_used_percent {
            write!(f, ", {used} % of the room for errors used")?;
        }
        match self.masked.sum() {
            0 => Ok(()),
            _ => write!(f, "; {}", self.masked),
        }
    }
}

impl fmt::Display for PlacesStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "concurrency: {} of {} places taken, {} queued; refused: {} queue full, {} too long, {} displaced",
            self.active,
            self.limit,
            self.queued,
            self.queue_full,
            self.queue_timeout,
            self.displaced
        )
    }
}

impl fmt::Display for CanaryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "canary: {} %", self.share_percent)?;
        if self.steps > 1 {
            write!(f, ", step {} of {}", self.step, self.steps)?;
        }
        write!(f, "; canary {}, stable {}", self.canary, self.stable)?;
        match &self.rolled_back {
            Some(why) => write!(f, "; rolled back: {why}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SideStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed", self.requests, self.failed)?;
        match self.p95_ms {
            Some(ms) => write!(f, ", p95 {ms} ms"),
            None => Ok(()),
        }
    }
}

/// `450 ms`, `12 s`, `3 m`, `2 h`.
pub(super) fn ago(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{} s", ms / 1000),
        60_000..3_600_000 => format!("{} m", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Figures, Memory};
    use super::super::status::{
        BackendStatus, FailureStatus, LastFailure, ProcessStatus, RouteStatus, UpstreamStatus,
    };
    use super::*;
    use crate::cache::fills::Ends;
    use std::collections::BTreeMap;

    fn figures() -> Figures {
        Figures {
            memory: Memory {
                objects: 0,
                bytes: 0,
                limit_bytes: 0,
                evicted: 0,
            },
            disk: None,
            fills: 0,
            fills_ended: Ends::default(),
        }
    }

    #[test]
    fn the_tables() {
        let success = vec![SuccessStatus {
            window: "5m".into(),
            requests: 1000,
            client_percent: Some(99.9),
            upstream_percent: Some(90.5),
            slo_used_percent: Some(12.5),
            masked: MaskedStatus {
                retry: 30,
                failover: 65,
                cache: 0,
            },
        }];
        let status = Status {
            configuration: 3,
            process: ProcessStatus {
                version: "1.2.3".into(),
                uptime_s: 5,
                connections: 2,
                draining: false,
                configured_s: 4,
                read_s: 3,
                reload_error: Some("upstreams.yaml:3: no".into()),
            },
            success: success.clone(),
            failures: vec![FailureStatus {
                time: "2026-11-29T00:00:00.000Z".into(),
                request_id: "abc".into(),
                route: "all".into(),
                request: "GET /a\u{9b}".into(),
                status: 502,
                tries: vec!["127.0.0.1:9001: reset".into()],
                reason: Some("tries".into()),
            }],
            upstreams: vec![UpstreamStatus {
                name: "pool".into(),
                down: false,
                backends: vec![BackendStatus {
                    address: "127.0.0.1:9001".into(),
                    state: "ejected".into(),
                    active: 1,
                    tries: 20,
                    failures: 5,
                    median_ms: Some(1.5),
                    ejected_for_ms: Some(900),
                    last_failure: Some(LastFailure {
                        what: "status 500".into(),
                        ago_ms: 61_000,
                    }),
                }],
                concurrency: None,
            }],
            routes: vec![RouteStatus {
                name: "all".into(),
                action: Doing::Proxy,
                cache: BTreeMap::new(),
                requests_total: 1000,
                masked_total: 95,
                success,
                slo_percent: Some(99.95),
                p50_ms: Some(5.0),
                p99_ms: None,
                requests: 10,
                retries: 2,
                retries_total: 7,
                retries_refused_total: 1,
                hedged_total: Some(3),
                concurrency: Some(PlacesStatus {
                    active: 3,
                    queued: 2,
                    limit: 3,
                    queue_full: 4,
                    queue_timeout: 5,
                    displaced: 6,
                }),
                rate_limited: Some(8),
                canary: Some(CanaryStatus {
                    share_percent: 0.0,
                    rolled_back: Some("too many failures".into()),
                    step: 1,
                    steps: 1,
                    shares_percent: vec![5.0],
                    next_step_ms: None,
                    stable: SideStatus {
                        requests: 100,
                        failed: 0,
                        p95_ms: Some(2.0),
                    },
                    canary: SideStatus {
                        requests: 10,
                        failed: 9,
                        p95_ms: None,
                    },
                }),
                not_mirrored: 0,
            }],
            cache: figures(),
            history: Vec::new(),
        };
        let text = "backstop 1.2.3, running for 5 s, 2 connections; configuration 3, in force for 4 s
the last reload failed: upstreams.yaml:3: no

success
  5m: 99.9 % for clients, 90.5 % at the upstream, 12.5 % of the room for errors used; 95 saved: 65 by another backend, 30 by another try

upstream pool
  backend                  state         active      tries    failed    median  last failure
  127.0.0.1:9001           ejected            1         20         5    1.5 ms  status 500 (1 m ago)

route all
  success 5m: 99.9 % for clients, 90.5 % at the upstream, 12.5 % of the room for errors used; 95 saved: 65 by another backend, 30 by another try
  10 requests and 2 retries in 10 s; 7 retries in all, 1 refused by the budget
  3 sent twice
  concurrency: 3 of 3 places taken, 2 queued; refused: 4 queue full, 5 too long, 6 displaced
  rate limit: 8 refused
  canary: 0 %; canary 10 requests, 9 failed, stable 100 requests, 0 failed, p95 2 ms; rolled back: too many failures

failures, the last first
  2026-11-29T00:00:00.000Z 502 GET /a\\u{9b} (all) abc; tries: 127.0.0.1:9001: reset; no further one: tries
";
        assert_eq!(status.to_string(), text);
    }
}
