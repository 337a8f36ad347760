//! What requests lack, as a table.

use super::*;

fn fields(text: &str) -> HeaderMap {
    let lines = text.split('\n').filter_map(|line| line.split_once(": "));
    lines
        .map(|(n, v)| {
            (
                n.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(v).unwrap(),
            )
        })
        .collect()
}

fn wanted<N>(name: N, pattern: Option<&str>) -> Wanted<N> {
    let pattern = pattern.map(|pattern| Pattern::parse(pattern).unwrap());
    Wanted { name, pattern }
}

#[test]
fn values_and_parameters_that_are_not_as_they_should_be() {
    let version = HeaderName::from_static("x-api-version");
    let requirement = Requirement {
        headers: vec![wanted(version.clone(), Some("v[0-9]+"))],
        query: vec![wanted("id".into(), Some("[0-9]{1,4}"))],
        allowed_query: Some(vec![
            wanted("sort".into(), Some("name|date")),
            wanted("q".into(), None),
        ]),
        ..Requirement::default()
    };
    let unfit = |name: &str| Err(Lacks::QueryUnfit(name.into()));
    for (query, head, verdict) in [
        ("id=1", "v1", Ok(())),
        ("id=1&sort=name&q=&q", "v12", Ok(())),
        ("%69d=%31", " v1 ", Ok(())),
        ("id=1", "v", Err(Lacks::HeaderUnfit(version.clone()))),
        ("id=1", "v1, v2", Err(Lacks::HeaderUnfit(version.clone()))),
        (
            "id=1",
            "v1\nx-api-version: w",
            Err(Lacks::HeaderUnfit(version.clone())),
        ),
        ("id=1", "", Err(Lacks::Header(version.clone()))),
        ("", "v1", Err(Lacks::Query("id".into()))),
        ("sort=name", "v1", Err(Lacks::Query("id".into()))),
        ("id=", "v1", unfit("id")),
        ("id=x", "v1", unfit("id")),
        ("id=12345", "v1", unfit("id")),
        ("id=1&id=x", "v1", unfit("id")),
        ("id=1&%69d=x", "v1", unfit("id")),
        ("id=1%0A", "v1", unfit("id")),
        ("id=1+", "v1", unfit("id")),
        ("id=1&sort=size", "v1", unfit("sort")),
        ("id=1&debug=1", "v1", Err(Lacks::QueryUnknown)),
        ("id=1&ID=1", "v1", Err(Lacks::QueryUnknown)),
        ("id=1&id[]=1", "v1", Err(Lacks::QueryUnknown)),
        ("id=1&q=%", "v1", Err(Lacks::QueryMalformed)),
        ("id=1&q=%4", "v1", Err(Lacks::QueryMalformed)),
        ("id=1&q=%4g", "v1", Err(Lacks::QueryMalformed)),
    ] {
        let head = fields(&format!("x-api-version: {head}"));
        let judged = requirement.judge(&Method::GET, Some(query), &head, false);
        assert_eq!(judged, verdict, "{query:?} {head:?}");
        if let Err(lacks) = verdict {
            assert_eq!(lacks.status(), StatusCode::BAD_REQUEST);
        }
    }
}

#[test]
fn what_a_request_lacks() {
    let json = || MediaType {
        kind: "application".into(),
        subtype: "json".into(),
    };
    let images = || MediaType {
        kind: "image".into(),
        subtype: "*".into(),
    };
    let nothing = Requirement::default;
    let authorization = |scheme| Requirement {
        authorization: Some(scheme),
        ..nothing()
    };
    let types = || Requirement {
        content_types: vec![json(), images()],
        ..nothing()
    };
    let body = || Requirement {
        max_body: Some(10),
        ..nothing()
    };
    let header = || Requirement {
        headers: vec![wanted(HeaderName::from_static("x-tenant"), None)],
        ..nothing()
    };
    let query = || Requirement {
        query: vec![wanted("id".to_string(), None)],
        ..nothing()
    };
    let unauthorized = |scheme| Err(Lacks::Authorization(scheme));
    let tenant = || Err(Lacks::Header(HeaderName::from_static("x-tenant")));
    let id = || Err(Lacks::Query("id".into()));
    for (requirement, target, head, verdict) in [
        (nothing(), "", "", Ok(())),
        (
            authorization(Scheme::Any),
            "",
            "",
            unauthorized(Scheme::Any),
        ),
        (
            authorization(Scheme::Any),
            "",
            "authorization: ",
            unauthorized(Scheme::Any),
        ),
        (
            authorization(Scheme::Any),
            "",
            "authorization: Token",
            unauthorized(Scheme::Any),
        ),
        (
            authorization(Scheme::Any),
            "",
            "authorization: Token x",
            Ok(()),
        ),
        (
            authorization(Scheme::Bearer),
            "",
            "authorization: bearer x",
            Ok(()),
        ),
        (
            authorization(Scheme::Bearer),
            "",
            "authorization: Basic x",
            unauthorized(Scheme::Bearer),
        ),
        (
            authorization(Scheme::Basic),
            "",
            "authorization: BASIC x",
            Ok(()),
        ),
        (
            authorization(Scheme::Any),
            "",
            "authorization: Token x\nauthorization: Token y",
            unauthorized(Scheme::Any),
        ),
        (types(), "", "", Ok(())),
        (types(), "", "content-length: 0", Ok(())),
        (types(), "", "content-length: 1", Err(Lacks::ContentType)),
        (
            types(),
            "",
            "transfer-encoding: chunked",
            Err(Lacks::ContentType),
        ),
        (
            types(),
            "",
            "content-type: text/plain",
            Err(Lacks::ContentType),
        ),
        (
            types(),
            "",
            "content-type: application/JSON; charset=utf-8",
            Ok(()),
        ),
        (types(), "", "content-type: image/png", Ok(())),
        (
            types(),
            "",
            "content-type: image/png, text/html",
            Err(Lacks::ContentType),
        ),
        (
            types(),
            "",
            "content-type: application/json-patch+json",
            Err(Lacks::ContentType),
        ),
        (
            types(),
            "",
            "content-type: application/json\ncontent-type: a/b",
            Err(Lacks::ContentType),
        ),
        (body(), "", "content-length: 10", Ok(())),
        (body(), "", "content-length: 11", Err(Lacks::MaxBody(10))),
        (header(), "", "x-tenant: a", Ok(())),
        (header(), "", "x-tenant: ", tenant()),
        (
            header(),
            "",
            "x-tenant: a\nconnection: close, X-Tenant",
            tenant(),
        ),
        (header(), "", "", tenant()),
        (query(), "a=b&id=7", "", Ok(())),
        (query(), "id=", "", id()),
        (query(), "id", "", id()),
        (query(), "xid=7", "", id()),
    ] {
        let query = Some(target).filter(|t| !t.is_empty());
        let judged = requirement.judge(&Method::POST, query, &fields(head), false);
        assert_eq!(judged, verdict, "{target:?} {head:?}");
    }
    let asked = authorization(Scheme::Any).judge(&Method::OPTIONS, None, &HeaderMap::new(), false);
    assert_eq!(asked, Ok(()));
    let unsaid = types().judge(&Method::POST, None, &HeaderMap::new(), true);
    assert_eq!(unsaid, Err(Lacks::ContentType));
}
