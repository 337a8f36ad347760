//! The process: its connections, its configuration, and what it uses.

use super::super::Scene;
use crate::observe::exposition::{Exposition, Kind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes them.
pub(super) fn write(scene: &Scene, all: &mut Exposition) {
    let shared = &scene.shared;
    let counts = &shared.counts;
    #[allow(clippy::cast_precision_loss)]
    let of = |n: u64| n as f64;
    let mut workers = all.family(
        "backstop_worker_connections",
        Kind::Gauge,
        "Connections of clients, by the worker that serves them.",
    );
    for (worker, open) in shared.spread.open().enumerate() {
        workers.sample(&[("worker", &worker.to_string())], of(open as u64));
    }
    let mut number = |name: &str, kind, help: &str, value: f64| {
        all.family(name, kind, help).sample(&[], value);
    };
    let read = |counter: &std::sync::atomic::AtomicU64| of(counter.load(Ordering::Relaxed));
    let seconds = |at: SystemTime| {
        at.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64()
    };
    number(
        "backstop_connections",
        Kind::Gauge,
        "Connections of clients.",
        of(shared.visitors.open() as u64),
    );
    number(
        "backstop_connections_refused",
        Kind::Counter,
        "Connections that were one too many.",
        of(shared.visitors.refused()),
    );
    number(
        "backstop_held_bytes",
        Kind::Gauge,
        "Content of requests that is held for another try or to be looked at.",
        of(crate::proxy::held()),
    );
    number(
        "backstop_malformed_requests",
        Kind::Counter,
        "Heads that were no request.",
        read(&counts.malformed),
    );
    number(
        "backstop_tls_handshakes",
        Kind::Counter,
        "Handshakes of TLS that were completed.",
        read(&counts.handshakes),
    );
    number(
        "backstop_tls_handshakes_failed",
        Kind::Counter,
        "Handshakes of TLS that were not.",
        read(&counts.handshakes_failed),
    );
    number(
        "backstop_access_log_dropped_lines",
        Kind::Counter,
        "Lines that the access log was too slow for.",
        of(shared.log.dropped()),
    );
    if let Some(progress) = &shared.log.progress {
        number(
            "backstop_access_log_shipped_files",
            Kind::Counter,
            "Files of the access log that were shipped.",
            read(&progress.files),
        );
        number(
            "backstop_access_log_shipped_bytes",
            Kind::Counter,
            "Their bytes, compressed.",
            read(&progress.bytes),
        );
        number(
            "backstop_access_log_ship_failures",
            Kind::Counter,
            "Attempts to ship one that failed.",
            read(&progress.failures),
        );
        number(
            "backstop_access_log_waiting_files",
            Kind::Gauge,
            "Files of the access log that wait to be shipped.",
            read(&progress.waiting),
        );
        number(
            "backstop_access_log_last_shipped_timestamp_seconds",
            Kind::Gauge,
            "When one was shipped last; 0 for never.",
            read(&progress.last),
        );
    }
    if let Some(traces) = &shared.traces {
        let sending = &traces.sending;
        number(
            "backstop_traces_sent_spans",
            Kind::Counter,
            "Spans that the collector took.",
            read(&sending.sent),
        );
        number(
            "backstop_traces_dropped_spans",
            Kind::Counter,
            "Spans that were lost, for want of room or because nobody took them.",
            read(&sending.dropped),
        );
        number(
            "backstop_traces_send_failures",
            Kind::Counter,
            "Attempts to send spans that failed.",
            read(&sending.failures),
        );
    }
    let reload = counts.reloads();
    number(
        "backstop_config_loads",
        Kind::Counter,
        "Configurations that took effect, that of the start included.",
        of(reload.done),
    );
    number(
        "backstop_config_reload_failures",
        Kind::Counter,
        "Reloads that failed.",
        of(reload.failed),
    );
    let ok = if reload.error.is_none() { 1.0 } else { 0.0 };
    number(
        "backstop_config_last_reload_successful",
        Kind::Gauge,
        "Whether the last reload took effect.",
        ok,
    );
    number(
        "backstop_config_since_timestamp_seconds",
        Kind::Gauge,
        "When the configuration in force was taken.",
        seconds(reload.since),
    );
    number(
        "backstop_config_last_reload_timestamp_seconds",
        Kind::Gauge,
        "When a configuration was last read, whether or not it took effect.",
        seconds(reload.tried),
    );
    let draining = if shared.leaving.load(Ordering::Relaxed) {
        1.0
    } else {
        0.0
    };
    number(
        "backstop_draining",
        Kind::Gauge,
        "Whether the process is about to end.",
        draining,
    );
    let usage = super::super::usage::read();
    if let Some(usage) = usage {
        number(
            "process_cpu_seconds",
            Kind::Counter,
            "Processor time that was used.",
            usage.cpu_seconds,
        );
        number(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Memory that is resident.",
            of(usage.resident_bytes),
        );
        number(
            "process_open_fds",
            Kind::Gauge,
            "Open descriptors.",
            of(usage.open_files),
        );
    }
    let started = SystemTime::now() - counts.started.elapsed();
    number(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started.",
        seconds(started),
    );
    let mut family = all.family(
        "backstop_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When a certificate ends; one that is still to be fetched has ended.",
    );
    let mut seen = std::collections::BTreeSet::new();
    for certificate in scene
        .stores
        .iter()
        .flat_map(|store| Arc::clone(store).certificates())
    {
        let file = certificate.path().display().to_string();
        // Several listeners may show the same.
        if !seen.insert(file.clone()) {
            continue;
        }
        family.sample(&[("file", &file)], seconds(certificate.not_after));
    }
    let version = env!("CARGO_PKG_VERSION");
    all.family("backstop_build_info", Kind::Gauge, "Which program this is.")
        .sample(&[("version", version)], 1);
}
