//! Content that has to be JSON, or as a schema has it.

use crate::client::{Client, get, request};
use crate::client2::Client2;
use crate::harness::{Proxy, eventually, one_route};
use crate::origin::Origin;
use crate::reply::Reply;

const SCHEMA: &str = r#"{
    "type": "object",
    "required": ["id"],
    "properties": { "id": { "type": "integer" }, "name": { "type": "string", "pattern": "^[a-z]+$" } }
}"#;

#[test]
fn what_is_no_json_goes_nowhere() {
    let origin = Origin::always(Reply::ok("taken"));
    let proxy = Proxy::with()
        .http2()
        .start(&one_route(&[origin.port], "require: { json: any }"));
    let mut client = Client::to(proxy.port);
    let good = b" {\"a\": [1, 2.50, null]} \n";
    for method in ["POST", "PUT", "DELETE"] {
        let answer = client.request(method, "/", &[("Content-Type", "application/json")], good);
        assert_eq!(answer.text(), "taken", "{method}");
        // As it came, to the byte.
        assert_eq!(origin.last().body, good);
    }
    assert_eq!(
        client.chunked("POST", "/", &[b"{\"a\"", b":1}"]).status,
        200
    );
    assert_eq!(origin.last().body, b"{\"a\":1}");
    assert_eq!(client.get("/").status, 200);
    let mut second = Client2::to(proxy.port);
    assert_eq!(second.request("POST", "/", &[], good).status, 200);
    let asked = origin.count();
    for (bad, place) in [
        (&b"{"[..], "line 1, column 1"),
        (b"{\"a\":1}\n}", "line 2, column 1"),
        (b"a=secret", "line 1, column 1"),
        (b"{\"a\":\xff}", "line 1, column 6"),
        (b" ", "line 1, column 1"),
    ] {
        for answer in [
            client.request("POST", "/bad", &[], bad),
            client.chunked("POST", "/bad", &[bad]),
            second.request("POST", "/bad", &[], bad),
        ] {
            assert_eq!(answer.status, 400, "{bad:?}");
            let said = answer.text();
            assert!(
                said.contains(&format!("the content is not JSON: {place}")),
                "{said}"
            );
            assert!(!said.contains("secret"));
        }
    }
    assert_eq!(proxy.logged("/bad")["refused"], "json_malformed");
    let packed = [("Content-Encoding", "gzip")];
    assert_eq!(request(proxy.port, "POST", "/", &packed, good).status, 415);
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    assert_eq!(
        request(proxy.port, "POST", "/", &[], long.as_bytes()).status,
        413
    );
    let mut client = Client::to(proxy.port);
    assert_eq!(client.chunked("POST", "/", &[long.as_bytes()]).status, 413);
    assert_eq!(origin.count(), asked);
}

#[test]
fn a_schema_is_obeyed_and_says_where_and_what_but_not_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("order.json");
    std::fs::write(&file, SCHEMA).unwrap();
    let origin = Origin::always(Reply::ok("taken"));
    let rules = format!("require: {{ json: {}, max_body: 2MiB }}", file.display());
    let yaml = one_route(&[origin.port], &rules);
    let proxy = Proxy::start(&yaml);
    let post = |body: &str| request(proxy.port, "POST", "/order", &[], body.as_bytes());
    assert_eq!(post("{\"id\": 7, \"name\": \"ann\"}").status, 200);
    let long = format!("{{\"id\": 7, \"name\": \"{}\"}}", "a".repeat(1_500_000));
    assert_eq!(post(&long).status, 200);
    assert_eq!(origin.last().body, long.as_bytes());
    let asked = origin.count();
    for (body, said) in [
        ("{\"name\": \"ann\"}", "at /, \"id\" is a required property"),
        (
            "{\"id\": \"secret\"}",
            "at /id, the value is not of type \"integer\"",
        ),
        (
            "{\"id\": 7, \"name\": \"secret 1\"}",
            "at /name, the value does not match",
        ),
        ("[]", "at /, the value is not of type \"object\""),
    ] {
        let answer = post(body);
        assert_eq!(answer.status, 422, "{body}");
        let text = answer.text();
        assert!(text.contains(said) && !text.contains("secret"), "{text}");
    }
    assert_eq!(post("{\"id\": ").status, 400);
    assert_eq!(origin.count(), asked);
    assert_eq!(proxy.logged("/order")["refused"], serde_json::Value::Null);
    let refused = eventually("the line of one", || {
        proxy
            .log_lines()
            .into_iter()
            .find(|l| l["http.response.status_code"] == 422)
    });
    assert_eq!(refused["refused"], "json_unfit");
    assert_eq!(get(proxy.port, "/order").status, 200);
    // A wrong schema is refused, and the one before it holds.
    std::fs::write(&file, "{\"type\": \"strange\"}").unwrap();
    proxy.reload_refused(&yaml);
    proxy.said("order.json: ");
    assert_eq!(post("[]").status, 422);
    std::fs::write(&file, "{\"type\": \"array\"}").unwrap();
    proxy.reload_with(&yaml);
    assert_eq!(post("[]").status, 200);
}
