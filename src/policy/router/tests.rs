//! The router against tables and against a slow and simple one.

use super::*;
use proptest::prelude::*;

/// Reads `HOST PATH [METHOD,...]`: host `*` is any and `*.x` a wildcard, a path after `=` is exact.
fn pattern(text: &str) -> RouteMatch {
    let mut words = text.split(' ');
    let (host, path) = (words.next().unwrap(), words.next().unwrap());
    RouteMatch {
        host: match host.strip_prefix('*') {
            Some("") => HostPattern::Any,
            Some(suffix) => HostPattern::Wildcard(suffix.into()),
            None => HostPattern::Exact(host.into()),
        },
        path: match path.strip_prefix('=') {
            Some(path) => PathPattern::Exact(path.into()),
            None => PathPattern::Prefix(path.into()),
        },
        methods: words.flat_map(|w| w.split(',')).map(method).collect(),
    }
}

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

fn build<S: AsRef<str>>(routes: &[S]) -> Result<Router<&str>, Vec<(usize, usize)>> {
    let routes = routes.iter().map(|text| text.as_ref());
    Router::build(routes.map(|text| (pattern(text), text)).collect())
        .map_err(|found| found.iter().map(|c| (c.first, c.second)).collect())
}

/// Asks for `METHOD HOST PATH`. The route that was found as it was written, else `405 ALLOWED,...` or `404`.
fn answer(router: &Router<&str>, request: &str) -> String {
    let words: Vec<&str> = request.split(' ').collect();
    match router.find(words[1], words[2], &method(words[0])) {
        Found::Route(route) => route.to_string(),
        Found::MethodNotAllowed(methods) => {
            let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            format!("405 {}", names.join(","))
        }
        Found::NotFound => "404".into(),
    }
}

#[test]
fn the_most_specific_route_wins_whatever_the_order() {
    let mut routes = [
        "* /",
        "* /admin",
        "* /patients/",
        "* =/patients/new",
        "* /patients/old/notes",
        "* /both",
        "* /both/",
        "*.example.com /",
        "*.b.example.com /b",
        "api.example.com /v1",
        "api.example.com =/v1/one",
        "api.example.com /v1 POST",
    ];
    for _ in 0..2 {
        routes.reverse();
        let router = build(&routes).unwrap();
        for (request, expected) in [
            ("GET x /", "* /"),
            ("GET  /", "* /"),
            ("OPTIONS x *", "* /"),
            ("GET x /admin", "* /admin"),
            ("GET x /admin/", "* /admin"),
            ("GET x /admin/x/y", "* /admin"),
            ("GET x /administrator", "* /"),
            ("GET x /patients", "* /"),
            ("GET x /patients/", "* /patients/"),
            ("GET x /patients/1", "* /patients/"),
            ("GET x /patients/new", "* =/patients/new"),
            ("GET x /patients/new/", "* /patients/"),
            ("GET x /patients/old", "* /patients/"),
            ("GET x /patients/old/notes/2", "* /patients/old/notes"),
            ("GET x /both", "* /both"),
            ("GET x /both/1", "* /both/"),
            ("GET example.com /", "* /"),
            ("GET .example.com /", "* /"),
            ("GET notexample.com /", "* /"),
            ("GET a.example.com /", "*.example.com /"),
            ("GET a.example.com /admin", "*.example.com /"),
            ("GET c.a.example.com /", "*.example.com /"),
            ("GET b.example.com /b", "*.example.com /"),
            ("GET a.b.example.com /b", "*.b.example.com /b"),
            ("GET a.b.example.com /c", "*.example.com /"),
            ("GET api.example.com /v1", "api.example.com /v1"),
            ("POST api.example.com /v1/2", "api.example.com /v1 POST"),
            ("POST api.example.com /v1/one", "api.example.com =/v1/one"),
            ("GET api.example.com /v2", "*.example.com /"),
        ] {
            assert_eq!(answer(&router, request), expected, "{request}");
        }
    }
}

#[test]
fn methods_choose_within_a_place_and_fall_back_to_wider_ones() {
    let routes = [
        "* / PUT",
        "* /a GET",
        "* /a POST,PUT",
        "* =/a/b DELETE,DELETE",
        "* /get GET",
        "* /get",
        "* /head GET",
        "* /head HEAD",
        "h /a PATCH",
    ];
    let router = build(&routes).unwrap();
    for (request, expected) in [
        ("GET x /a", "* /a GET"),
        ("HEAD x /a", "* /a GET"),
        ("PUT x /a", "* /a POST,PUT"),
        ("PATCH x /a", "405 GET,HEAD,POST,PUT"),
        ("DELETE x /a/b", "* =/a/b DELETE,DELETE"),
        ("GET x /a/b", "* /a GET"),
        ("PATCH x /a/b", "405 DELETE,GET,HEAD,POST,PUT"),
        ("PUT x /b", "* / PUT"),
        ("HEAD x /b", "405 PUT"),
        ("HEAD x /get", "* /get GET"),
        ("POST x /get", "* /get"),
        ("HEAD x /head", "* /head HEAD"),
        ("PATCH h /a", "h /a PATCH"),
        ("POST h /a", "* /a POST,PUT"),
        ("BREW h /a", "405 GET,HEAD,PATCH,POST,PUT"),
    ] {
        assert_eq!(answer(&router, request), expected, "{request}");
    }
}

#[test]
fn where_nothing_fits_nothing_is_found() {
    let router = build(&["h /a"]).unwrap();
    assert_eq!((router.len(), router.is_empty()), (1, false));
    assert_eq!(answer(&router, "GET h /b"), "404");
    assert_eq!(answer(&router, "GET g /a"), "404");
    assert_eq!(answer(&router, "OPTIONS h *"), "404");
    let empty = build::<&str>(&[]).unwrap();
    assert_eq!((empty.len(), empty.is_empty()), (0, true));
    assert_eq!(answer(&empty, "GET h /"), "404");
}

#[test]
fn routes_that_match_the_same_requests_conflict() {
    for (routes, expected) in [
        ("* /; * /", vec![(0, 1)]),
        ("* /; x /; * /; * /", vec![(0, 2), (0, 3)]),
        ("*.x /a; *.x /a", vec![(0, 1)]),
        ("* =/a GET,PUT; * =/a GET,PUT", vec![(0, 1)]),
        ("* / GET; * / PUT; * / PUT,GET", vec![(0, 2), (1, 2)]),
        ("* / GET; * / GET,PUT; * / PUT", vec![(0, 1), (1, 2)]),
        ("* / GET; * / HEAD; * /", vec![]),
        ("* /a; * /a/; * =/a; * =/a/", vec![]),
        ("* /; *.x /; x /", vec![]),
    ] {
        let routes: Vec<&str> = routes.split("; ").collect();
        let found = build(&routes).err().unwrap_or_default();
        assert_eq!(found, expected, "{routes:?}");
    }
}

#[test]
fn a_search_goes_no_deeper_than_the_deepest_pattern() {
    fn probes<'n>(tree: &Tree<Paths>, names: impl Iterator<Item = &'n [u8]>) -> usize {
        let mut probes = 0;
        tree.visit(names.inspect(|_| probes += 1), |_, _| false);
        probes
    }
    let mut tree = Tree::default();
    for names in ["a/b/c", "a", "x"] {
        let _: &mut Paths = tree.entry(segments(names));
    }
    let slashes = "/".repeat(8192);
    assert_eq!(probes(&tree, segments(&slashes)), 1);
    assert_eq!(probes(&tree, segments(&format!("a/b/c{slashes}"))), 4);
    assert_eq!(probes(&tree, segments("a/x/y/z")), 2);
    assert_eq!(
        probes(&tree, labels(&format!("{}b.a", ".".repeat(8192)))),
        3
    );

    let router = build(&["* /a/b/c", "* /"]).unwrap();
    assert_eq!(answer(&router, &format!("GET x {slashes}")), "* /");
    assert_eq!(
        answer(&router, &format!("GET x /a/b/c{slashes}")),
        "* /a/b/c"
    );
}

#[test]
fn ten_thousand_routes() {
    let texts: Vec<String> = (0..10_000)
        .map(|i| format!("h{}.example.com /{}/{i}", i % 100, i % 7))
        .collect();
    let router = build(&texts).unwrap();
    assert_eq!(router.len(), 10_000);
    for text in &texts {
        assert_eq!(answer(&router, &format!("GET {text}/x")), *text);
        assert_eq!(answer(&router, &format!("GET {text}x")), "404");
    }
}

/// How well a route suits a request: by host, then path, then method, the higher the better. None if it does not fit.
fn rank(route: &str, host: &str, path: &str, by: &str) -> Option<[usize; 5]> {
    let (route, by) = (pattern(route), method(by));
    let [host_kind, host_len] = match &route.host {
        HostPattern::Any => [0, 0],
        HostPattern::Exact(name) if host == name => [2, 0],
        HostPattern::Wildcard(suffix) if host.len() > suffix.len() && host.ends_with(suffix) => {
            [1, suffix.len()]
        }
        _ => return None,
    };
    let [path_kind, path_len] = match &route.path {
        PathPattern::Exact(exact) if path == exact => [1, 0],
        PathPattern::Prefix(prefix)
            if path == prefix
                || path.starts_with(&format!("{prefix}/"))
                || (prefix.ends_with('/') && path.starts_with(prefix)) =>
        {
            [0, prefix.len()]
        }
        _ => return None,
    };
    let listed = |method| route.methods.contains(method);
    let method_kind = match by {
        _ if listed(&by) => 2,
        Method::HEAD if listed(&Method::GET) => 1,
        _ if route.methods.is_empty() => 0,
        _ => return None,
    };
    Some([host_kind, host_len, path_kind, path_len, method_kind])
}

fn clash(a: &str, b: &str) -> bool {
    let (a, b) = (pattern(a), pattern(b));
    let both_any = a.methods.is_empty() && b.methods.is_empty();
    let common = a.methods.iter().any(|m| b.methods.contains(m));
    a.host == b.host && a.path == b.path && (both_any || common)
}

const ROUTE: &str =
    "(\\*|(\\*\\.)?(a\\.)?(b\\.)?c) =?(/(a|b|ab)?){1,3}( GET| HEAD| GET,PUT| PUT,POST)?";

proptest! {
    #[test]
    fn agrees_with_a_linear_scan(
        mut routes in prop::collection::vec(ROUTE, 0..30),
        requests in prop::collection::vec(("\\.?([ab]\\.){0,3}c", "(/(a|b|ab)?){1,4}"), 1..20),
    ) {
        if let Err(conflicts) = build(&routes) {
            for &(first, second) in &conflicts {
                prop_assert!(first < second && clash(&routes[first], &routes[second]));
            }
            let seconds: BTreeSet<usize> = conflicts.into_iter().map(|(_, second)| second).collect();
            for second in seconds.into_iter().rev() {
                routes.remove(second);
            }
        }
        // With those gone, none that clashes may be left.
        for (i, route) in routes.iter().enumerate() {
            prop_assert!(!routes[..i].iter().any(|earlier| clash(earlier, route)));
        }
        let router = build(&routes).unwrap();
        for (host, path) in &requests {
            let best = |by: &str| {
                let ranked = routes.iter().filter_map(|r| Some((rank(r, host, path, by)?, r)));
                ranked.max().map(|(_, route)| route.clone())
            };
            for by in ["GET", "HEAD", "POST", "PUT", "PATCH"] {
                let expected = best(by).unwrap_or_else(|| {
                    let mut others = vec!["GET", "HEAD", "POST", "PUT"];
                    others.retain(|other| best(other).is_some());
                    match others.join(",") {
                        none if none.is_empty() => "404".into(),
                        some => format!("405 {some}"),
                    }
                });
                let request = format!("{by} {host} {path}");
                prop_assert_eq!(answer(&router, &request), expected, "{}", request);
            }
        }
    }
}
