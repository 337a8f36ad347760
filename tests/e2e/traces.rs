//! Spans of requests and of their tries, as a collector gets them.

use crate::admin::with_admin;
use crate::client::{Client, get, request};
use crate::harness::{Proxy, Setup, eventually, free_port, one_route, until, with_upstream};
use crate::observe::{metrics, value};
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Request};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rustix::process::Signal;
use std::time::Duration;

const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn tracing(setup: Setup, port: u16, more: &str) -> Setup {
    setup.key(
        "traces",
        &format!("{{ otlp: \"http://127.0.0.1:{port}\"{more} }}"),
    )
}

fn sent(request: &Request) -> ExportTraceServiceRequest {
    assert_eq!(request.method, "POST");
    assert_eq!(request.target, "/v1/traces");
    assert_eq!(
        request.header("content-type"),
        Some("application/x-protobuf")
    );
    ExportTraceServiceRequest::decode(&*request.body).unwrap()
}

/// The spans that a collector got.
fn spans(collector: &Origin) -> Vec<Span> {
    let requests = collector.requests().into_iter().filter(|r| r.complete);
    let resources = requests.flat_map(|request| sent(&request).resource_spans);
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

/// Waits for so many.
fn await_spans(collector: &Origin, count: usize) -> Vec<Span> {
    let enough = || Some(spans(collector)).filter(|spans| spans.len() >= count);
    let all = eventually("the spans", enough);
    assert_eq!(all.len(), count, "{all:#?}");
    all
}

fn found<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.as_ref()?.value.as_ref()
}

fn text<'a>(span: &'a Span, name: &str) -> &'a str {
    match found(&span.attributes, name) {
        Some(Value::StringValue(text)) => text,
        _ => "",
    }
}

fn number(span: &Span, name: &str) -> Option<i64> {
    match found(&span.attributes, name) {
        Some(Value::IntValue(number)) => Some(*number),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == 2)
}

#[test]
fn a_request_and_each_of_its_tries_have_a_span() {
    let collector = Origin::always(Reply::ok(""));
    let (bad, good) = (
        Origin::always(Reply::status(503)),
        Origin::always(Reply::ok("fine")),
    );
    let ports = [bad.port, good.port];
    let rules = one_route(&ports, "retry: { tries: 2, wait: 20ms }");
    let proxy = tracing(Proxy::with(), collector.port, ", service: edge")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a secret")
        .start(&with_upstream(&rules, "eject: off"));
    let fields = [
        ("traceparent", GIVEN),
        ("tracestate", "a=1,b=2"),
        ("User-Agent", "it"),
    ];
    let answer = request(proxy.port, "GET", "/a?b=c&token=x", &fields, b"");
    assert_eq!(answer.text(), "fine");
    let all = await_spans(&collector, 3);
    let whole = &all[0];
    assert_eq!(hex(&whole.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&whole.parent_span_id), "b7ad6b7169203331");
    assert_eq!((whole.kind, &*whole.name), (2, "GET all"));
    for (name, expected) in [
        ("http.request.method", "GET"),
        ("url.path", "/a"),
        // What is a secret in the log is one here.
        ("url.query", "b=c&token=***"),
        ("url.scheme", "http"),
        ("server.address", "example.com"),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "it"),
        ("network.protocol.version", "1.1"),
        ("http.route", "all"),
        ("backstop.upstream", "pool"),
        ("backstop.retry", "answered"),
    ] {
        assert_eq!(text(whole, name), expected, "{name}");
    }
    assert_eq!(number(whole, "http.response.status_code"), Some(200));
    assert!(!is_error(whole));
    let tries = &all[1..];
    for (number_of, (span, origin)) in tries.iter().zip([&bad, &good]).enumerate() {
        assert_eq!(hex(&span.parent_span_id), hex(&whole.span_id));
        assert_eq!(span.trace_id, whole.trace_id);
        assert_eq!((span.kind, &*span.name), (3, "GET"));
        assert_eq!(number(span, "server.port"), Some(i64::from(origin.port)));
        let resent = (number_of > 0).then_some(1);
        assert_eq!(number(span, "http.request.resend_count"), resent);
        // Each backend was told of its own.
        let told = origin.last().header("traceparent").unwrap().to_string();
        assert_eq!(
            told,
            format!("00-{}-{}-01", hex(&whole.trace_id), hex(&span.span_id))
        );
        assert_eq!(origin.last().header("tracestate"), Some("a=1,b=2"));
        assert!(span.start_time_unix_nano >= whole.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= whole.end_time_unix_nano);
    }
    assert!(is_error(&tries[0]) && !is_error(&tries[1]));
    assert_eq!(text(&tries[0], "error.type"), "503");
    assert_eq!(number(&tries[0], "http.response.status_code"), Some(503));
    assert_eq!(text(&tries[1], "backstop.outcome"), "ok");
    // The wait is the gap.
    let gap = tries[1].start_time_unix_nano - tries[0].end_time_unix_nano;
    assert!(gap >= 15_000_000, "{gap}");
    let line = proxy.logged("/a?b=c&token=***");
    assert_eq!(line["trace_id"], hex(&whole.trace_id));
    assert_eq!(line["span_id"], hex(&whole.span_id));
    let got = collector.last();
    assert_eq!(got.header("x-key"), Some("a secret"));
    let resource = sent(&got).resource_spans.remove(0).resource.unwrap();
    assert_eq!(
        found(&resource.attributes, "service.name"),
        Some(&Value::StringValue("edge".into()))
    );
}

#[test]
fn who_says_whether_it_is_recorded() {
    let collector = Origin::always(Reply::ok(""));
    let origin = Origin::always(Reply::ok(""));
    let upstreams = one_route(&[origin.port], "");
    let told = || origin.last().header("traceparent").unwrap().to_string();
    // Nobody but the operator, here.
    let proxy = tracing(Proxy::with(), collector.port, ", sample: 0%").start(&upstreams);
    request(proxy.port, "GET", "/", &[("traceparent", GIVEN)], b"");
    assert!(told().starts_with("00-0af7651916cd43dd8448eb211c80319c-") && told().ends_with("-00"));
    // What is none is not passed on, nor what belongs to it.
    let fields = [("traceparent", "00-x"), ("tracestate", "a=1")];
    request(proxy.port, "GET", "/", &fields, b"");
    assert_eq!(told().len(), GIVEN.len());
    assert_eq!(origin.last().header("tracestate"), None);
    until("both are in the log", || {
        let lines = proxy.log_lines();
        lines.len() == 2 && lines.iter().all(|line| line["trace_id"].is_string())
    });
    // One that is believed says so.
    let proxy = tracing(Proxy::with(), collector.port, ", sample: 0%")
        .key("trusted_proxies", "[127.0.0.1]")
        .start(&upstreams);
    request(proxy.port, "GET", "/", &[("traceparent", GIVEN)], b"");
    get(proxy.port, "/");
    assert_eq!(await_spans(&collector, 2).len(), 2);
    // Without a place to send them, nothing is touched.
    let proxy = Proxy::start(&upstreams);
    let fields = [("traceparent", GIVEN), ("tracestate", "a=1")];
    request(proxy.port, "GET", "/", &fields, b"");
    assert_eq!(told(), GIVEN);
    assert_eq!(origin.last().header("tracestate"), Some("a=1"));
    assert_eq!(proxy.logged("/")["trace_id"], serde_json::Value::Null);
}

#[test]
fn answers_of_ours_and_fills_have_spans_too() {
    let collector = Origin::always(Reply::ok(""));
    let origin = Origin::always(Reply::ok("kept"));
    let proxy = tracing(Proxy::with(), collector.port, "")
        .start(&one_route(&[origin.port], "cache: { ttl: 1m }"));
    for _ in 0..2 {
        assert_eq!(get(proxy.port, "/a").text(), "kept");
    }
    let mut all = await_spans(&collector, 3);
    all.sort_by_key(|span| span.start_time_unix_nano);
    let cache: Vec<_> = all
        .iter()
        .map(|span| text(span, "backstop.cache"))
        .collect();
    assert_eq!(cache, ["miss", "", "hit"]);
    // The try is that of the fill, which is of the first request.
    assert_eq!(all[1].parent_span_id, all[0].span_id);
    assert_eq!(number(&all[1], "http.response.status_code"), Some(200));
    let told = origin.last().header("traceparent").unwrap().to_string();
    assert!(told.contains(&hex(&all[1].span_id)), "{told}");
}

#[test]
fn second_requests_have_spans_of_their_own() {
    let collector = Origin::always(Reply::ok(""));
    let late = Origin::always(Reply::hang());
    let quick = Origin::always(Reply::ok("quick"));
    let rules = one_route(&[late.port, quick.port], "hedge: { after: 30ms }");
    let proxy = tracing(Proxy::with(), collector.port, "").start(&rules);
    assert_eq!(get(proxy.port, "/").text(), "quick");
    let all = await_spans(&collector, 3);
    assert_eq!(text(&all[1], "backstop.outcome"), "hedged");
    for (span, origin) in [(&all[1], &late), (&all[2], &quick)] {
        let told = origin.last().header("traceparent").unwrap().to_string();
        assert!(told.contains(&hex(&span.span_id)), "{told}");
    }
    // One that the first overtook was a try too, and its backend was told of it.
    let gate = Gate::default();
    let open = gate.clone();
    late.set(move |_| Reply::ok("late").when(&open));
    quick.set(|_| Reply::hang());
    let mut asked = 3;
    loop {
        let before = quick.count();
        let mut client = Client::to(proxy.port);
        client.begin("GET", "/", &[], b"");
        until("both were asked", || quick.count() > before);
        gate.open();
        let first = client.answer().text();
        let line = spans_after(&collector, &mut asked);
        if first == "late" {
            let told = quick.last().header("traceparent").unwrap().to_string();
            let span = line.iter().find(|span| told.contains(&hex(&span.span_id)));
            assert_eq!(text(span.unwrap(), "backstop.outcome"), "hedged");
            break;
        }
    }
}

/// Those of one request, after so many.
fn spans_after(collector: &Origin, seen: &mut usize) -> Vec<Span> {
    let more = || Some(spans(collector)).filter(|spans| spans.len() > *seen);
    let all = eventually("more spans", more);
    let new = all[*seen..].to_vec();
    *seen = all.len();
    new
}

/// Who is asked beside is asked within the request's own span.
#[test]
fn copies_and_questions_are_of_the_same_trace() {
    let collector = Origin::always(Reply::ok(""));
    let [origin, service, copy] = [(); 3].map(|()| Origin::always(Reply::ok("")));
    let yaml = format!(
        "upstreams:\n  pool: {{ backends: [127.0.0.1:{}] }}\n  login: {{ backends: [127.0.0.1:{}] }}\n  copies: {{ backends: [127.0.0.1:{}] }}\nroutes:\n  - {{ upstream: pool, mirror: {{ upstream: copies }}, auth: {{ forward: {{ upstream: login, path: /ask }} }} }}\n",
        origin.port, service.port, copy.port
    );
    let proxy = tracing(Proxy::with(), collector.port, "").start(&yaml);
    // What is none, and what belonged to it, reaches nobody.
    let fields = [("traceparent", "00-x"), ("tracestate", "a=1")];
    assert_eq!(request(proxy.port, "GET", "/", &fields, b"").status, 200);
    let all = await_spans(&collector, 2);
    let told = |span: &Span| format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
    until("the copy", || copy.count() == 1);
    for (origin, span) in [(&origin, &all[1]), (&service, &all[0]), (&copy, &all[0])] {
        let seen = origin.last();
        assert_eq!(seen.header("traceparent"), Some(&*told(span)));
        assert_eq!(seen.header("tracestate"), None);
    }
}

#[test]
fn what_a_collector_does_not_want_is_said() {
    let partial = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message: "one is too old".into(),
        }),
    };
    let body = partial.encode_to_vec();
    let collector = Origin::new(move |_| Reply::answer(200, &[], &body));
    let origin = Origin::always(Reply::ok(""));
    let (setup, admin) = with_admin();
    let proxy = tracing(setup, collector.port, "").start(&one_route(&[origin.port], ""));
    get(proxy.port, "/");
    let said = proxy.said("does not want all spans");
    assert!(said.contains("one is too old"), "{said}");
    let figure = |name: &str| value(&metrics(admin), &format!("backstop_traces_{name}_total"));
    until("it is counted", || {
        figure("sent_spans") == Some(1.0) && figure("dropped_spans") == Some(1.0)
    });
}

#[test]
fn a_collector_that_is_busy_or_away_costs_no_request() {
    let busy = Reply::answer(503, &[("Retry-After", "1")], b"");
    let collector = Origin::sequence(&[busy, Reply::ok("")]);
    let origin = Origin::always(Reply::ok(""));
    let upstreams = one_route(&[origin.port], "");
    let (setup, admin) = with_admin();
    let proxy = tracing(setup, collector.port, "").start(&upstreams);
    get(proxy.port, "/");
    let figure = |admin, name: &str| {
        value(&metrics(admin), &format!("backstop_traces_{name}_total")).unwrap()
    };
    until("they are sent again", || figure(admin, "sent_spans") >= 2.0);
    assert_eq!(figure(admin, "send_failures"), 1.0);
    assert_eq!(figure(admin, "dropped_spans"), 0.0);
    // What was sent twice is the same.
    let requests = collector.requests();
    assert_eq!(requests[0].body, requests[1].body);
    let pause = requests[1].at - requests[0].at;
    assert!(pause >= Duration::from_millis(950), "{pause:?}");
    let away = free_port();
    let (setup, admin) = with_admin();
    let mut proxy = tracing(setup, away, "").start(&upstreams);
    for _ in 0..20 {
        assert_eq!(get(proxy.port, "/").status, 200);
    }
    until("they are lost", || figure(admin, "dropped_spans") >= 1.0);
    let said = proxy.said("spans are lost until");
    assert!(said.contains(&away.to_string()), "{said}");
    // One that answers that it never will is not asked again.
    let refusing = Origin::always(Reply::status(400));
    let (setup, admin) = with_admin();
    let other = tracing(setup, refusing.port, "").start(&upstreams);
    get(other.port, "/");
    until("they are lost", || figure(admin, "dropped_spans") == 2.0);
    assert_eq!(refusing.count(), 1);
    // The end does not wait for it either.
    get(proxy.port, "/");
    proxy.signal(Signal::TERM);
    let (_, took) = proxy.wait_exit(Duration::from_secs(10));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn the_last_ones_are_sent_at_the_end() {
    let collector = Origin::always(Reply::ok(""));
    let origin = Origin::always(Reply::ok(""));
    let setup = tracing(Proxy::with(), collector.port, "");
    let mut proxy = setup.start(&one_route(&[origin.port], ""));
    for _ in 0..3 {
        get(proxy.port, "/");
    }
    proxy.signal(Signal::TERM);
    proxy.wait_exit(Duration::from_secs(10));
    await_spans(&collector, 6);
}
