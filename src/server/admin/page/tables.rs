//! The tables of the page.

use super::super::figures::size;
use super::super::status::{
    BackendStatus, CanaryStatus, Doing, PlacesStatus, RouteStatus, SideStatus, Status,
    SuccessStatus,
};
use super::super::terminal::ago;
use super::{Text, class, share};
use std::fmt::{self, Write};

/// How many failures are shown; `/status` has all that are remembered.
const SHOWN_FAILURES: usize = 20;

/// Every upstream and its backends.
pub(super) fn upstreams(out: &mut String, status: &Status) -> fmt::Result {
    out.push_str("<section id=\"upstreams\" aria-labelledby=\"h-upstreams\"><h2 id=\"h-upstreams\">Upstreams</h2>");
    for upstream in &status.upstreams {
        write!(
            out,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"backends of {0}\"><table><caption>{0}</caption><thead><tr><th scope=\"col\">backend</th>\
             <th scope=\"col\">state</th><th scope=\"col\" class=\"n\">active</th><th scope=\"col\" class=\"n\">tries</th>\
             <th scope=\"col\" class=\"n\">failed</th><th scope=\"col\" class=\"n\">median</th><th scope=\"col\">last failure</th></tr></thead><tbody>",
            Text(&upstream.name)
        )?;
        for backend in &upstream.backends {
            row(out, backend)?;
        }
        out.push_str("</tbody></table></div>");
    }
    out.push_str("</section>");
    Ok(())
}

fn row(out: &mut String, backend: &BackendStatus) -> fmt::Result {
    let kind = match backend.state.as_str() {
        "up" => "good",
        "warming" | "checking" | "drain" | "off" => "so-so",
        _ => "bad",
    };
    let failure = match &backend.last_failure {
        Some(failure) => format!("{} ({} ago)", failure.what, ago(failure.ago_ms)),
        None => "–".to_string(),
    };
    let median = backend
        .median_ms
        .map_or_else(|| "–".to_string(), |ms| format!("{ms} ms"));
    write!(
        out,
        "<tr><th scope=\"row\">{}</th><td><span class=\"state {kind}\">{}</span></td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{median}</td><td>{}</td></tr>",
        Text(&backend.address),
        Text(&backend.state),
        backend.active,
        backend.tries,
        backend.failures,
        Text(&failure)
    )
}

/// Every route.
pub(super) fn routes(out: &mut String, status: &Status) -> fmt::Result {
    out.push_str(
        "<section id=\"routes\" aria-labelledby=\"h-routes\"><h2 id=\"h-routes\">Routes</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table of routes\"><table>\
         <caption>Requests over the last hour; times, retries and the cache since the start</caption><thead><tr>\
         <th scope=\"col\">route</th><th scope=\"col\" class=\"n\">requests</th><th scope=\"col\" class=\"n\">clients</th>\
         <th scope=\"col\" class=\"n\">upstream</th><th scope=\"col\" class=\"n\">p50</th><th scope=\"col\" class=\"n\">p99</th>\
         <th scope=\"col\" class=\"n\">retries</th><th scope=\"col\" class=\"n\">cache</th><th scope=\"col\">else</th></tr></thead><tbody>",
    );
    for route in &status.routes {
        let hour = route.success.iter().find(|s| s.window == "1h");
        let of = |which: fn(&SuccessStatus) -> Option<f64>| share(hour.and_then(which));
        let time = |ms: Option<f64>| match ms {
            Some(ms) => format!("≤ {ms} ms"),
            None if route.requests_total > 0 => "&gt; 60 s".to_string(),
            None => "–".to_string(),
        };
        write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n {}\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            Text(&route.name),
            hour.map_or(0, |hour| hour.requests),
            class(hour.and_then(|hour| hour.client_percent)),
            of(|s| s.client_percent),
            of(|s| s.upstream_percent),
            time(route.p50_ms),
            time(route.p99_ms),
            match route.action {
                Doing::Proxy => route.retries_total.to_string(),
                Doing::Respond | Doing::Redirect => "–".to_string(),
            },
            cached(route),
            Text(&others(route))
        )?;
    }
    out.push_str("</tbody></table></div></section>");
    Ok(())
}

/// Which share of requests the store answered, of those that it was asked for.
fn cached(route: &RouteStatus) -> String {
    let asked = route.cache.iter().filter(|(word, _)| *word != "bypass");
    let all: u64 = asked.map(|(_, count)| count).sum();
    let of = |word: &str| route.cache.get(word).copied().unwrap_or_default();
    #[allow(clippy::cast_precision_loss)] // Beyond 2^53 requests the share is exact enough.
    let share = (of("hit") + of("stale")) as f64 / all as f64;
    match all {
        0 => "–".to_string(),
        _ => format!("{} %", (share * 1000.0).floor() / 10.0),
    }
}

/// What only some routes have.
fn others(route: &RouteStatus) -> String {
    let mut said = Vec::new();
    match route.action {
        Doing::Proxy => {}
        Doing::Respond => said.push("answers at once".to_string()),
        Doing::Redirect => said.push("redirects".to_string()),
    }
    if let Some(slo) = route.slo_percent {
        let used = route.success.iter().find(|s| s.window == "30d");
        let used = used.and_then(|s| s.slo_used_percent);
        let used = used.map_or_else(String::new, |used| {
            format!(", {used} % of its room for errors used in 30 days")
        });
        said.push(format!("objective {slo} %{used}"));
    }
    if let Some(refused) = route.rate_limited {
        said.push(format!("{refused} refused for coming too often"));
    }
    if let Some(hedged) = route.hedged_total {
        said.push(format!("{hedged} sent twice"));
    }
    said.join("; ")
}

/// The canaries with their steps, where there are some.
pub(super) fn canaries(out: &mut String, status: &Status) -> fmt::Result {
    let mut canaries = status
        .routes
        .iter()
        .filter_map(|r| Some((&r.name, r.canary.as_ref()?)))
        .peekable();
    if canaries.peek().is_none() {
        return Ok(());
    }
    out.push_str(
        "<section id=\"canaries\" aria-labelledby=\"h-canaries\"><h2 id=\"h-canaries\">Canaries</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table of canaries\"><table>\
         <caption>Of late, by first tries</caption><thead><tr><th scope=\"col\">route</th><th scope=\"col\" class=\"n\">share</th><th scope=\"col\">steps</th>\
         <th scope=\"col\">next</th><th scope=\"col\">canary</th><th scope=\"col\">stable</th><th scope=\"col\">state</th></tr></thead><tbody>",
    );
    for (route, canary) in canaries {
        let next = match (canary.next_step_ms, canary.step < canary.steps) {
            (Some(0), true) => "when enough is known".to_string(),
            (Some(ms), true) => format!("in {}", ago(ms)),
            _ => "–".to_string(),
        };
        let (kind, state) = match &canary.rolled_back {
            Some(why) => ("bad", format!("rolled back: {why}")),
            None => ("good", "in force".to_string()),
        };
        write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{} %</td><td>{}</td><td>{next}</td><td>{}</td><td>{}</td>\
             <td><span class=\"state {kind}\">{}</span></td></tr>",
            Text(route),
            canary.share_percent,
            steps(canary),
            side(&canary.canary),
            side(&canary.stable),
            Text(&state)
        )?;
    }
    out.push_str("</tbody></table></div></section>");
    Ok(())
}

/// Its shares one after the other, the one in force marked.
fn steps(canary: &CanaryStatus) -> String {
    let step = |(place, share): (usize, &f64)| match place + 1 == canary.step
        && canary.rolled_back.is_none()
    {
        true => format!("<strong aria-current=\"step\">{share} %</strong>"),
        false => format!("{share} %"),
    };
    let steps: Vec<String> = canary.shares_percent.iter().enumerate().map(step).collect();
    steps.join(" → ")
}

fn side(side: &SideStatus) -> String {
    let p95 = side
        .p95_ms
        .map_or_else(String::new, |ms| format!(", p95 {ms} ms"));
    format!("{} failed of {}{p95}", side.failed, side.requests)
}

/// What bounds how much runs at once, where something does.
pub(super) fn queues(out: &mut String, status: &Status) -> fmt::Result {
    let routes = status.routes.iter();
    let routes = routes.filter_map(|r| Some(("route", &r.name, r.concurrency.as_ref()?)));
    let upstreams = status.upstreams.iter();
    let upstreams = upstreams.filter_map(|u| Some(("upstream", &u.name, u.concurrency.as_ref()?)));
    let all: Vec<(&str, &String, &PlacesStatus)> = routes.chain(upstreams).collect();
    if all.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<section id=\"queues\" aria-labelledby=\"h-queues\"><h2 id=\"h-queues\">Queues</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table of queues\"><table>\
         <caption>Requests at once, and those that wait; refused ones since the start</caption><thead><tr><th scope=\"col\">of</th>\
         <th scope=\"col\" class=\"n\">at once</th><th scope=\"col\" class=\"n\">at most</th><th scope=\"col\" class=\"n\">waiting</th>\
         <th scope=\"col\" class=\"n\">refused, queue full</th><th scope=\"col\" class=\"n\">waited too long</th><th scope=\"col\" class=\"n\">for others</th></tr></thead><tbody>",
    );
    for (kind, name, places) in all {
        let look = match (places.queued, places.active >= places.limit) {
            (0, false) => "",
            (0, true) => " so-so",
            _ => " bad",
        };
        write!(
            out,
            "<tr><th scope=\"row\">{kind} {}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n{look}\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            Text(name),
            places.active,
            places.limit,
            places.queued,
            places.queue_full,
            places.queue_timeout,
            places.displaced
        )?;
    }
    out.push_str("</tbody></table></div></section>");
    Ok(())
}

/// The store.
pub(super) fn cache(out: &mut String, status: &Status) -> fmt::Result {
    let cache = &status.cache;
    let (memory, disk, ended) = (&cache.memory, cache.disk.as_ref(), &cache.fills_ended);
    out.push_str(
        "<section id=\"cache\" aria-labelledby=\"h-cache\"><h2 id=\"h-cache\">Cache</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table of the cache\"><table>\
         <caption>Stored answers</caption><thead><tr><th scope=\"col\">where</th><th scope=\"col\" class=\"n\">answers</th><th scope=\"col\" class=\"n\">size</th>\
         <th scope=\"col\" class=\"n\">of</th><th scope=\"col\" class=\"n\">evicted</th><th scope=\"col\">state</th></tr></thead><tbody>",
    );
    let mut tier = |name: &str, figures: [u64; 4], (kind, state): (&str, &str)| {
        let [objects, bytes, limit, evicted] = figures;
        write!(
            out,
            "<tr><th scope=\"row\">{name}</th><td class=\"n\">{objects}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{evicted}</td>\
             <td><span class=\"state {kind}\">{}</span></td></tr>",
            size(bytes),
            size(limit),
            Text(state)
        )
    };
    let figures = [
        memory.objects,
        memory.bytes,
        memory.limit_bytes,
        memory.evicted,
    ];
    tier("memory", figures, ("good", "on"))?;
    if let Some(disk) = disk {
        let state = match &disk.off {
            Some(off) => (
                "bad",
                format!("nothing is written since {}: {}", off.since, off.why),
            ),
            None if disk.indexed_percent < 100 => (
                "so-so",
                format!("{} % looked through", disk.indexed_percent),
            ),
            None => ("good", "on".to_string()),
        };
        let figures = [disk.objects, disk.bytes, disk.limit_bytes, disk.evicted];
        tier("files", figures, (state.0, &state.1))?;
    }
    write!(
        out,
        "</tbody></table></div><p>{} fills are under way. Of those that have an answer, {} stored it, {} found the stored one to be good, and {} brought one that is not to be stored; {} failed.</p></section>",
        cache.fills, ended.stored, ended.validated, ended.not_stored, ended.failed
    )
}

/// The requests that failed of late.
pub(super) fn failures(out: &mut String, status: &Status) -> fmt::Result {
    out.push_str(
        "<section id=\"failures\" aria-labelledby=\"h-failures\"><h2 id=\"h-failures\">Recent failures</h2>",
    );
    if status.failures.is_empty() {
        out.push_str("<p>None since the start.</p></section>");
        return Ok(());
    }
    out.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table of recent failures\"><table><caption>Requests that got an error of the server, the last first</caption><thead><tr>\
         <th scope=\"col\">time</th><th scope=\"col\">request</th><th scope=\"col\" class=\"n\">status</th><th scope=\"col\">route</th>\
         <th scope=\"col\">tries</th><th scope=\"col\">why no further</th><th scope=\"col\">request id</th></tr></thead><tbody>",
    );
    for failure in status.failures.iter().take(SHOWN_FAILURES) {
        write!(
            out,
            "<tr><td>{}</td><th scope=\"row\">{}</th><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            Text(&failure.time),
            Text(&failure.request),
            failure.status,
            Text(&failure.route),
            Text(&failure.tries.join(", ")),
            Text(failure.reason.as_deref().unwrap_or("–")),
            Text(&failure.request_id)
        )?;
    }
    out.push_str("</tbody></table></div></section>");
    Ok(())
}
