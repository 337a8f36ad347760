//! The page on the admin address: what `/status` says, for people. It needs no JavaScript; with it, it follows by itself.
//!
//! Served from the binary, and read-only: nothing on it changes anything. Its [`charts`] and its [`tables`] are files of their own.

mod charts;
mod tables;

use super::status::Status;
use super::terminal::ago;
use std::fmt::{self, Display, Write};

/// Its media type.
pub(super) const HTML: &str = "text/html; charset=utf-8";
/// What a browser may do with it: no script or style but its own, and no frame around it.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-2dl2r3htmP0Pw9+chV4HNUo7pMlTC3wdXYl7oJZ1aAE='; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The ways to its parts, those that are always there.
const NAV: &str = "<nav aria-label=\"parts of this page\"><a href=\"#success\">Success</a> <a href=\"#upstreams\">Upstreams</a> <a href=\"#routes\">Routes</a> \
                   <a href=\"#cache\">Cache</a> <a href=\"#failures\">Failures</a> <a href=\"#process\">Process</a></nav>";

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
         <header><h1>Backstop</h1><p id=\"live\" role=\"status\">as of this moment</p>{NAV}</header><main id=\"main\" tabindex=\"-1\">"
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
    charts::write(out, &status.history)?;
    tables::upstreams(out, status)?;
    tables::routes(out, status)?;
    tables::canaries(out, status)?;
    tables::queues(out, status)?;
    tables::cache(out, status)?;
    tables::failures(out, status)?;
    process(out, status)
}

/// What needs somebody.
fn notices(out: &mut String, status: &Status) -> fmt::Result {
    // Each has an id, so that a reader of screens hears of it once.
    out.push_str("<div id=\"notices\">");
    if let Some(error) = &status.process.reload_error {
        write!(
            out,
            "<div class=\"notice\" role=\"alert\" id=\"n-reload\"><strong>The last reload failed</strong>, the configuration before it is in force.<pre>{}</pre></div>",
            Text(error)
        )?;
    }
    for upstream in status.upstreams.iter().filter(|u| u.down) {
        write!(
            out,
            "<div class=\"notice\" role=\"alert\" id=\"n-down-{0}\"><strong>{0} is down</strong>: none of its backends can be sent anything.</div>",
            Text(&upstream.name)
        )?;
    }
    if status.process.draining {
        out.push_str(
            "<div class=\"notice\" role=\"alert\" id=\"n-drain\">The process drains and is about to end.</div>",
        );
    }
    out.push_str("</div>");
    Ok(())
}

fn success(out: &mut String, status: &Status) -> fmt::Result {
    out.push_str("<section id=\"success\" aria-labelledby=\"h-success\"><h2 id=\"h-success\">Success</h2><div class=\"cards\">");
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

fn process(out: &mut String, status: &Status) -> fmt::Result {
    let process = &status.process;
    write!(
        out,
        "<section id=\"process\" aria-labelledby=\"h-process\"><h2 id=\"h-process\">Process</h2><dl><dt>version</dt><dd>{}</dd><dt>running for</dt><dd>{}</dd>\
         <dt>configuration</dt><dd>number {}, in force for {}</dd><dt>last read</dt><dd>{} ago{}</dd><dt>connections</dt><dd>{}</dd></dl></section>",
        Text(&process.version),
        ago(process.uptime_s * 1000),
        status.configuration,
        ago(process.configured_s * 1000),
        ago(process.read_s * 1000),
        match process.reload_error {
            Some(_) => ", and refused",
            None => "",
        },
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
