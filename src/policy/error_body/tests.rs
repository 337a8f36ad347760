//! Which form a client gets, and that nothing escapes into it.

use super::page::VARIABLES;
use super::*;
use proptest::prelude::*;
use std::sync::Arc;

fn accepting(lines: &[&str]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines {
        map.append(
            header::ACCEPT,
            HeaderValue::from_str(line).expect("a value"),
        );
    }
    map
}

fn told(id: &str) -> Told<'_> {
    Told {
        status: StatusCode::NOT_FOUND,
        why: None,
        request_id: id,
    }
}

#[test]
fn the_form_a_client_likes_best() {
    use Form::{Html, Json, Problem, Text};
    for (accept, form) in [
        (&[][..], Text),
        (&["*/*"], Text),
        (&["text/*"], Text),
        (&["application/*"], Problem),
        (&["application/json"], Json),
        (&["APPLICATION/Json; charset=utf-8"], Json),
        (&["application/problem+json"], Problem),
        (&["application/json, application/problem+json"], Json),
        (&["application/problem+json, application/json"], Problem),
        (
            &["application/json;q=0.5, application/problem+json"],
            Problem,
        ),
        (&["application/json, text/plain, */*"], Json),
        (&["text/plain, application/json"], Text),
        (&["text/html"], Html),
        (
            &["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"],
            Html,
        ),
        (&["text/html;q=0.5, */*;q=0.1"], Html),
        (&["*/*, application/json;q=0.5"], Text),
        (&["text/plain;q=0, */*"], Problem),
        (&["text/*;q=0.2, text/html;q=0.8"], Html),
        (&["image/png"], Text),
        (&["*/*;q=0"], Text),
        (&["text/html;q=0"], Text),
        (&["image/png", "text/html"], Html),
        (&["text/html;q=2, application/json;q=0.1"], Json),
        (&["text/html;level=\"a,b;q=0\";q=0.9"], Html),
        (&["a/b;x=\"\\\",text/html\", application/json"], Json),
        (&["html, */json, ;, /"], Text),
        (&["*/html"], Text),
    ] {
        assert_eq!(Form::of(&accepting(accept)), form, "{accept:?}");
    }
}

#[test]
fn the_forms() {
    let plain = told("r-1");
    assert_eq!(Form::Text.body(&plain), "404 Not Found\nrequest id: r-1\n");
    assert_eq!(
        Form::Problem.body(&plain),
        "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"request_id\":\"r-1\"}\n"
    );
    let odd = Told {
        status: StatusCode::IM_A_TEAPOT,
        why: Some("a <b> & \"c\\\" \u{1} 'd'"),
        request_id: "<script>",
    };
    assert_eq!(
        Form::Text.body(&odd),
        "418 I'm a teapot: a <b> & \"c\\\" \u{1} 'd'\nrequest id: <script>\n"
    );
    assert_eq!(
        Form::Json.body(&odd),
        "{\"type\":\"about:blank\",\"title\":\"I'm a teapot\",\"status\":418,\
         \"detail\":\"a \\u003cb> & \\\"c\\\\\\\" \\u0001 'd'\",\"request_id\":\"\\u003cscript>\"}\n"
    );
    let page = Form::Html.body(&odd);
    for piece in [
        "<title>418 I&#39;m a teapot</title>",
        "<p>a &lt;b&gt; &amp; &quot;c\\&quot; \u{1} &#39;d&#39;</p>",
        "<code>&lt;script&gt;</code>",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(piece), "{piece} in {page}");
    }
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("url("));
    assert_eq!(Form::Problem.content_type(), "application/problem+json");
    assert_eq!(Form::Html.content_type(), "text/html; charset=utf-8");
}

#[test]
fn pages_are_filled_in_as_their_kind_needs_it() {
    let odd = told("\"<&");
    for (kind, text, body) in [
        (
            Kind::Html,
            "a { b } {status} {reason} {request_id}",
            "a { b } 404 Not Found &quot;&lt;&amp;",
        ),
        (
            Kind::Json,
            "{\"s\":{status},\"r\":\"{request_id}\"}",
            "{\"s\":404,\"r\":\"\\\"\\u003c&\"}",
        ),
        (Kind::Text, "{request_id}{request_id}", "\"<&\"<&"),
        (
            Kind::Text,
            "{{status}} {Status} {status {",
            "{404} {Status} {status {",
        ),
        (Kind::Text, "", ""),
    ] {
        let made = Page::parse(kind, text).body(&odd);
        assert_eq!(made, PageBody::Made(body.into()), "{text}");
    }
    let same = Page::parse(Kind::Html, "<h1>{</h1>");
    let shared = PageBody::Shared("<h1>{</h1>".as_bytes().into());
    assert_eq!(same.body(&odd), shared);
    assert_eq!(same.content_type(), "text/html; charset=utf-8");
}

#[test]
fn a_page_of_its_own_comes_before_that_of_the_class() {
    let page = |name| Arc::new(Page::parse(Kind::Text, name));
    let pages = ErrorPages(vec![
        (PageFor::Class(5), page("class")),
        (PageFor::Status(503), page("own")),
        (PageFor::Status(404), page("gone")),
    ]);
    for (status, name) in [
        (StatusCode::SERVICE_UNAVAILABLE, Some("own")),
        (StatusCode::BAD_GATEWAY, Some("class")),
        (StatusCode::NOT_FOUND, Some("gone")),
        (StatusCode::FORBIDDEN, None),
        (StatusCode::NO_CONTENT, None),
    ] {
        let found = pages.find(status).cloned();
        let wanted = name.map(|name| Page::parse(Kind::Text, name));
        assert_eq!(found, wanted, "{status}");
    }
}

#[test]
fn kinds_by_name() {
    for (name, kind) in [
        ("errors/503.html", Some(Kind::Html)),
        ("a.b.json", Some(Kind::Json)),
        ("x.txt", Some(Kind::Text)),
        ("x.htm", None),
        ("x.HTML", None),
        ("html", None),
        (".html", None),
        ("errors/.html", None),
        ("x.html/y", None),
    ] {
        assert_eq!(Kind::of(name), kind, "{name}");
    }
}

proptest! {
    #[test]
    fn no_accept_panics_and_every_named_type_is_found(
        noise in "[a-z*/;,=q\"\\\\. 0-9]{0,40}",
    ) {
        if let Ok(value) = HeaderValue::from_str(&noise) {
            let mut map = HeaderMap::new();
            map.insert(header::ACCEPT, value);
            let _ = Form::of(&map);
        }
    }

    #[test]
    fn text_stays_what_it_was(text in "\\PC{0,12}|[<>&\"'\\\\\\x00-\\x1f]{0,8}") {
        let page = html(&text);
        prop_assert!(!page.contains(['<', '>', '"', '\'']));
        let back = page.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        prop_assert_eq!(back.replace("&#39;", "'").replace("&amp;", "&"), text.clone());
        let string = json(&text);
        prop_assert!(!string.chars().any(|c| c.is_ascii_control() && c != '\x7f'));
        prop_assert!(!string.contains('<'));
    }

    #[test]
    fn a_page_without_variables_is_left_as_it_is(text in "[a-z{} ]{0,30}") {
        let named = VARIABLES.iter().any(|(written, _)| text.contains(written));
        let body = Page::parse(Kind::Text, &text).body(&told("r"));
        if !named && !text.is_empty() {
            prop_assert_eq!(body, PageBody::Shared(text.as_bytes().into()));
        }
    }
}
