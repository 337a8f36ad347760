//! What answers of our own say, in which form, and the pages that an operator has for them.

use crate::client::{Answer, Client, get, request};
use crate::command::run;
use crate::harness::{Proxy, free_port, until};
use crate::origin::Origin;
use crate::reply::Reply;
use serde_json::Value;

fn accepting(port: u16, path: &str, accept: &str) -> Answer {
    request(port, "GET", path, &[("Accept", accept)], b"")
}

fn id(answer: &Answer) -> String {
    answer.header("x-request-id").expect("an id").to_string()
}

const ROUTES: &str = "routes:
  - { match: { path: /secret }, respond: { status: 200 }, require: { query: [\"<id>\"] } }
";

#[test]
fn errors_come_in_the_form_that_the_client_takes() {
    let proxy = Proxy::start(ROUTES);
    for accept in ["*/*", "image/png", "text/*", "text/plain"] {
        let answer = accepting(proxy.port, "/none", accept);
        let text = format!("404 Not Found\nrequest id: {}\n", id(&answer));
        assert_eq!((answer.status, answer.text()), (404, text), "{accept}");
    }
    for (accept, kind) in [
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/problem+json", "application/problem+json"),
        ("text/html;q=0.2, application/*", "application/problem+json"),
    ] {
        let answer = accepting(proxy.port, "/secret", accept);
        assert_eq!(answer.header("content-type"), Some(kind), "{accept}");
        assert_eq!(answer.header("vary"), Some("Accept"));
        let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let expected = serde_json::json!({
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "the query parameter <id> is required",
            "request_id": id(&answer),
        });
        assert_eq!((answer.status, said), (400, expected), "{accept}");
    }
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let answer = accepting(proxy.port, "/secret", browser);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let page = answer.text();
    assert!(page.starts_with("<!doctype html>"), "{page}");
    assert!(page.contains("parameter &lt;id&gt; is required"), "{page}");
    assert!(page.contains(&id(&answer)), "{page}");
    assert!(
        !page.contains("<script") && !page.contains("http"),
        "{page}"
    );
    // HEAD has the length of the body that GET would have.
    let fields = [("Accept", "application/json"), ("X-Request-ID", "r-1")];
    let mut client = Client::to(proxy.port);
    let got = client.request("GET", "/none", &fields, b"");
    let head = client.request("HEAD", "/none", &fields, b"");
    assert_eq!(head.header("content-length"), got.header("content-length"));
    assert!(head.body.is_empty() && !got.body.is_empty());
}

#[test]
fn pages_take_the_place_of_our_own_texts_and_of_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let page = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a page");
        path.display().to_string()
    };
    let server = page(
        "5xx.html",
        "<style>b { x: y }</style>{status} {reason} <b>{request_id}</b>",
    );
    let missing = page("404.json", "{\"gone\":{status},\"id\":\"{request_id}\"}");
    let denied = page("401.txt", "Who are you?\n");
    let origin = Origin::new(|_| Reply::status(503));
    let yaml = format!(
        "defaults: {{ error_pages: {{ 5xx: {server}, 404: {missing} }} }}\nupstreams:\n\
         \x20 well: {{ backends: [\"127.0.0.1:{}\"] }}\n  gone: {{ backends: [\"127.0.0.1:{}\"] }}\nroutes:\n\
         - {{ match: {{ path: /own }}, upstream: well, retry: {{ tries: 1 }} }}\n\
         - {{ match: {{ path: /gone }}, upstream: gone, retry: {{ tries: 1 }} }}\n\
         - {{ match: {{ path: /off }}, upstream: gone, retry: {{ tries: 1 }}, error_pages: off }}\n\
         - {{ match: {{ path: /empty }}, respond: {{ status: 404 }} }}\n\
         - {{ match: {{ path: /said }}, respond: {{ status: 404, body: said }} }}\n\
         - {{ match: {{ path: /secret }}, respond: {{ status: 200 }}, require: {{ authorization: any }}, error_pages: {{ 401: {denied} }} }}\n",
        origin.port,
        free_port()
    );
    let proxy = Proxy::start(&yaml);
    let upstream = get(proxy.port, "/own");
    assert_eq!(
        (upstream.status, upstream.text().as_str()),
        (503, "the backend's own 503\n")
    );
    // Whatever the client takes.
    for accept in ["*/*", "application/json"] {
        let answer = accepting(proxy.port, "/gone", accept);
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        let start = format!("<style>b {{ x: y }}</style>{} ", answer.status);
        let end = format!(" <b>{}</b>", id(&answer));
        let text = answer.text();
        assert!(text.starts_with(&start) && text.ends_with(&end), "{text}");
        assert!(answer.header("proxy-status").is_some());
    }
    let off = get(proxy.port, "/off");
    assert!(off.text().contains("request id: "), "{}", off.text());
    for path in ["/none", "/empty"] {
        let answer = get(proxy.port, path);
        let text = format!("{{\"gone\":404,\"id\":\"{}\"}}", id(&answer));
        assert_eq!((answer.status, answer.text()), (404, text), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(get(proxy.port, "/said").text(), "said");
    let denied = get(proxy.port, "/secret");
    assert_eq!(
        (denied.status, denied.text().as_str()),
        (401, "Who are you?\n")
    );
    assert!(denied.header("www-authenticate").is_some());
    let head = request(proxy.port, "HEAD", "/secret", &[], b"");
    assert_eq!(head.header("content-length"), Some("13"));
}

#[test]
fn pages_are_checked_and_read_again() {
    let plain = "routes: [{ match: { path: /x }, respond: { status: 204 } }]\n";
    let proxy = Proxy::start(plain);
    let file = proxy.dir().join("404.txt");
    std::fs::write(&file, "first\n").expect("a page");
    let yaml = format!("defaults: {{ error_pages: {{ 404: 404.txt }} }}\n{plain}");
    proxy.reload_with(&yaml);
    assert_eq!(get(proxy.port, "/").text(), "first\n");
    std::fs::write(&file, "second\n").expect("a page");
    // A request reads no file.
    assert_eq!(get(proxy.port, "/").text(), "first\n");
    proxy.reload_with(&yaml);
    assert_eq!(get(proxy.port, "/").text(), "second\n");

    std::fs::write(&file, "x".repeat((1 << 20) + 1)).expect("a page");
    proxy.reload_refused(&yaml);
    let why = "defaults.error_pages.404: \"404.txt\": the file is larger than 1 MiB";
    until("it says why", || proxy.stderr().contains(why));
    std::fs::remove_file(&file).expect("a page");
    proxy.reload_refused(&yaml);
    let why = "defaults.error_pages.404: \"404.txt\": there is no such file";
    until("it says why", || proxy.stderr().contains(why));
    assert_eq!(get(proxy.port, "/").text(), "second\n");
    let config = proxy.config();
    let check = run(&["-t", "-c", config.to_str().expect("text")], proxy.dir());
    assert!(!check.status.success());
}
