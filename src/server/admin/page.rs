//! The page on the admin address: what `/status` says, for people. It needs no JavaScript; with it, it follows by itself.
//!
//! Served from the binary, and read-only: nothing on it changes anything.

use super::status::{BackendStatus, RouteStatus, Status, SuccessStatus, ago};
use std::fmt::{self, Display, Write};

/// Its media type.
pub(super) const HTML: &str = "text/html; charset=utf-8";
/// What a browser may do with it: no script or style but its own, and no frame around it.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-spyQJraejONghbLThoJ5ylyJ13Zu1F/dBDlQILM21Ps='; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A text in HTML.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The whole page.
pub(super) fn html(status: &Status) -> String {
    let mut out = String::with_capacity(32 * 1024);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Backstop</title><link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head><body>\
         <header><h1>Backstop</h1><p id=\"live\" role=\"status\">as of this moment</p></header><main id=\"main\" tabindex=\"-1\">"
    );
    let _ = main(&mut out, status);
    let _ = writeln!(out, "</main><script>{SCRIPT}</script></body></html>");
    out
}

/// Its main part alone.
pub(super) fn part(status: &Status) -> String {
    let mut out = String::with_capacity(32 * 1024);
    // Writing to a string does not fail.
    let _ = main(&mut out, status);
    out
}

fn main(out: &mut String, status: &Status) -> fmt::Result {
    notices(out, status)?;
    success(out, status)?;
    upstreams(out, status)?;
    routes(out, status)?;
    failures(out, status)?;
    process(out, status)
}

/// What needs somebody.
fn notices(out: &mut String, status: &Status) -> fmt::Result {
    if let Some(error) = &status.process.reload_error {
        write!(
            out,
            "<div class=\"notice\" role=\"alert\"><strong>The last reload failed</strong>, the configuration before it is in force.<pre>{}</pre></div>",
            Text(error)
        )?;
    }
    for upstream in status.upstreams.iter().filter(|u| u.down) {
        write!(
            out,
            "<div class=\"notice\" role=\"alert\"><strong>{} is down</strong>: none of its backends can be sent anything.</div>",
            Text(&upstream.name)
        )?;
    }
    if status.process.draining {
        out.push_str(
            "<div class=\"notice\" role=\"alert\">The process drains and is about to end.</div>",
        );
    }
    Ok(())
}

fn success(out: &mut String, status: &Status) -> fmt::Result {
    out.push_str("<section aria-labelledby=\"h-success\"><h2 id=\"h-success\">Success</h2><div class=\"cards\">");
    for success in &status.success {
        write!(
            out,
            "<article class=\"card {}\"><h3>last {}</h3><p class=\"big\">{}</p><p>as clients saw it</p>\
             <p class=\"second\">{}</p><p>as the upstreams answered</p><p class=\"muted\">{} requests{}</p></article>",
            class(success.client_percent),
            success.window,
            share(success.client_percent),
            share(success.upstream_percent),
            success.requests,
            match success.masked.sum() {
                0 => String::new(),
                _ => format!(", {}", success.masked),
            }
        )?;
    }
    out.push_str("</div>");
    let retries: u64 = status.routes.iter().map(|route| route.retries_total).sum();
    write!(
        out,
        "<p>Saved are requests that succeeded although a try had failed. {retries} retries were made since the start.</p></section>"
    )
}

fn upstreams(out: &mut String, status: &Status) -> fmt::Result {
    out.push_str("<section aria-labelledby=\"h-upstreams\"><h2 id=\"h-upstreams\">Upstreams</h2>");
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
        if let Some(places) = &upstream.concurrency {
            write!(out, "<p>{places}</p>")?;
        }
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

fn routes(out: &mut String, status: &Status) -> fmt::Result {
    out.push_str(
        "<section aria-labelledby=\"h-routes\"><h2 id=\"h-routes\">Routes</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"routes\"><table>\
         <caption>Routes that hand requests on, over the last hour</caption><thead><tr>\
         <th scope=\"col\">route</th><th scope=\"col\" class=\"n\">requests</th><th scope=\"col\" class=\"n\">clients</th>\
         <th scope=\"col\" class=\"n\">upstream</th><th scope=\"col\" class=\"n\">p50</th><th scope=\"col\" class=\"n\">p99</th>\
         <th scope=\"col\" class=\"n\">retries</th><th scope=\"col\">else</th></tr></thead><tbody>",
    );
    for route in &status.routes {
        let hour = route.success.iter().find(|s| s.window == "1h");
        let of = |which: fn(&SuccessStatus) -> Option<f64>| share(hour.and_then(which));
        let time = |ms: Option<f64>| ms.map_or_else(|| "–".to_string(), |ms| format!("≤ {ms} ms"));
        write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n {}\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            Text(&route.name),
            hour.map_or(0, |hour| hour.requests),
            class(hour.and_then(|hour| hour.client_percent)),
            of(|s| s.client_percent),
            of(|s| s.upstream_percent),
            time(route.p50_ms),
            time(route.p99_ms),
            route.retries_total,
            Text(&others(route))
        )?;
    }
    out.push_str("</tbody></table></div></section>");
    Ok(())
}

/// What only some routes have.
fn others(route: &RouteStatus) -> String {
    let mut said = Vec::new();
    if let Some(slo) = route.slo_percent {
        let used = route.success.iter().find(|s| s.window == "30d");
        let used = used.and_then(|s| s.slo_used_percent);
        let used = used.map_or_else(String::new, |used| {
            format!(", {used} % of its room for errors used in 30 days")
        });
        said.push(format!("objective {slo} %{used}"));
    }
    if let Some(places) = &route.concurrency {
        said.push(places.to_string());
    }
    if let Some(refused) = route.rate_limited {
        said.push(format!("{refused} refused for coming too often"));
    }
    if let Some(hedged) = route.hedged_total {
        said.push(format!("{hedged} sent twice"));
    }
    if let Some(canary) = &route.canary {
        said.push(canary.to_string());
    }
    said.join("; ")
}

fn failures(out: &mut String, status: &Status) -> fmt::Result {
    out.push_str(
        "<section aria-labelledby=\"h-failures\"><h2 id=\"h-failures\">Recent failures</h2>",
    );
    if status.failures.is_empty() {
        out.push_str("<p>None since the start.</p></section>");
        return Ok(());
    }
    out.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"recent failures\"><table><caption>Requests that got an error of the server, the last first</caption><thead><tr>\
         <th scope=\"col\">time</th><th scope=\"col\">request</th><th scope=\"col\" class=\"n\">status</th><th scope=\"col\">route</th>\
         <th scope=\"col\">tries</th><th scope=\"col\">why no further</th><th scope=\"col\">request id</th></tr></thead><tbody>",
    );
    for failure in &status.failures {
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

fn process(out: &mut String, status: &Status) -> fmt::Result {
    let process = &status.process;
    write!(
        out,
        "<section aria-labelledby=\"h-process\"><h2 id=\"h-process\">Process</h2><dl><dt>version</dt><dd>{}</dd><dt>running for</dt><dd>{}</dd>\
         <dt>configuration</dt><dd>number {}, in force for {}</dd><dt>connections</dt><dd>{}</dd></dl></section>",
        Text(&process.version),
        ago(process.uptime_s * 1000),
        status.configuration,
        ago(process.configured_s * 1000),
        process.connections
    )
}

fn share(percent: Option<f64>) -> String {
    percent.map_or_else(|| "–".to_string(), |percent| format!("{percent} %"))
}

/// How it looks.
fn class(percent: Option<f64>) -> &'static str {
    match percent {
        None => "none",
        Some(percent) if percent >= 99.9 => "good",
        Some(percent) if percent >= 99.0 => "so-so",
        Some(_) => "bad",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_clients_sent_becomes_markup() {
        let shown = Text("<script>'\"&").to_string();
        assert_eq!(shown, "&lt;script&gt;&#39;&quot;&amp;");
    }

    #[test]
    fn the_script_is_the_one_that_is_allowed() {
        use base64::Engine;
        let hash = ring::digest::digest(&ring::digest::SHA256, SCRIPT.as_bytes());
        let hash = base64::engine::general_purpose::STANDARD.encode(hash);
        let allowed = format!("'sha256-{hash}'");
        assert!(CONTENT_SECURITY_POLICY.contains(&allowed), "{allowed}");
    }
}
