//! Which route a request belongs to, by host, path and method.
//!
//! `config` builds the table at load and reports the conflicts; `proxy` asks it once per request, with the host and path
//! as `policy::target` has normalised them. The order in which routes are written never matters. Nothing is decoded or
//! folded here, and what a route does is not known here.

use http::Method;
use std::collections::{BTreeSet, HashMap};

/// Which hosts a route is for. Names are lower-case, without port or trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Every host, and requests that name none.
    Any,
    /// This host.
    Exact(String),
    /// One or more labels before this suffix, which begins with a dot: `.example.com` for `*.example.com`.
    Wildcard(String),
}

/// Which paths a route is for. Patterns are in normalised form and begin with `/`; an exact `*` is that of `OPTIONS *`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// By whole segments: `/admin` is itself and what lies below it, `/admin/` only the latter, `/` everything.
    Prefix(String),
}

/// Which requests a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteMatch {
    /// The hosts.
    pub host: HostPattern,
    /// The paths.
    pub path: PathPattern,
    /// The methods; none listed means any. GET brings HEAD along (RFC 9110 §9.3.2) unless another route at the same host
    /// and path lists it.
    pub methods: Vec<Method>,
}

/// Two routes of which neither is more specific: same host and path, and a method in common or none listed in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Index of the one written first.
    pub first: usize,
    /// Index of the other.
    pub second: usize,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a, T> {
    /// This route serves it.
    Route(&'a T),
    /// Routes fit but for the method. These methods they would take, sorted: the `Allow` of a 405 (RFC 9110 §15.5.6).
    MethodNotAllowed(Vec<Method>),
    /// No route fits.
    NotFound,
}

/// All routes, arranged so that a search costs what the request's own host and path cost, however many routes there are.
#[derive(Debug)]
pub struct Router<T> {
    routes: Vec<T>,
    exact: HashMap<String, Paths>,
    /// By labels from the right: `com`, `example`.
    wildcard: Tree<Paths>,
    any: Paths,
}

impl<T> Router<T> {
    /// Arranges the routes.
    ///
    /// # Errors
    /// Every route that clashes with an earlier one, paired with the earliest that holds the same method, in the order
    /// of the input.
    pub fn build(routes: Vec<(RouteMatch, T)>) -> Result<Self, Vec<Conflict>> {
        let mut router = Router {
            routes: Vec::with_capacity(routes.len()),
            exact: HashMap::new(),
            wildcard: Tree::default(),
            any: Paths::default(),
        };
        let mut conflicts = Vec::new();
        for (second, (pattern, route)) in routes.into_iter().enumerate() {
            let paths = match pattern.host {
                HostPattern::Any => &mut router.any,
                HostPattern::Exact(host) => router.exact.entry(host).or_default(),
                HostPattern::Wildcard(suffix) => router.wildcard.entry(labels(&suffix)),
            };
            let holders = paths.place(pattern.path).claim(&pattern.methods, second);
            conflicts.extend(holders.into_iter().map(|first| Conflict { first, second }));
            router.routes.push(route);
        }
        if conflicts.is_empty() {
            Ok(router)
        } else {
            Err(conflicts)
        }
    }

    /// The most specific route for a request: by host (exact, longest wildcard, any), then path (exact, longest prefix),
    /// then method (listed, any). Where the more specific place does not take the method, the next one is asked.
    ///
    /// Allocates only for [`Found::MethodNotAllowed`], which is why that takes a second walk.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Found<'_, T> {
        let mut places = self.places(host, path);
        if let Some(index) = places.find_map(|place| place.route(method)) {
            return Found::Route(&self.routes[index]);
        }
        let mut allowed: Vec<Method> = self
            .places(host, path)
            .flat_map(Place::allowed)
            .cloned()
            .collect();
        if allowed.is_empty() {
            return Found::NotFound;
        }
        allowed.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        allowed.dedup();
        Found::MethodNotAllowed(allowed)
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is no route at all.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Every place that fits host and path, the most specific first.
    fn places<'a>(&'a self, host: &'a str, path: &'a str) -> impl Iterator<Item = &'a Place> {
        let wildcards = self.wildcard.fitting(labels(host));
        self.exact
            .get(host)
            .into_iter()
            .chain(wildcards.filter_map(|(paths, more)| more.then_some(paths)))
            .chain([&self.any])
            .flat_map(move |paths| paths.fitting(path))
    }
}

/// The paths of one host pattern.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, Place>,
    /// By segments from the left.
    prefix: Tree<Prefixes>,
}

/// The two prefixes that end in the same segment.
#[derive(Debug, Default)]
struct Prefixes {
    /// `/a`
    open: Place,
    /// `/a/`
    below: Place,
}

impl Paths {
    fn place(&mut self, pattern: PathPattern) -> &mut Place {
        let prefix = match pattern {
            PathPattern::Exact(path) => return self.exact.entry(path).or_default(),
            PathPattern::Prefix(prefix) => prefix,
        };
        let prefix = prefix.strip_prefix('/').unwrap_or(&prefix);
        if prefix.is_empty() {
            // `/` fits everything, and so even what has no segments: `*`.
            return &mut self.prefix.entry([].into_iter()).open;
        }
        match prefix.strip_suffix('/') {
            Some(parent) => &mut self.prefix.entry(parent.split('/')).below,
            None => &mut self.prefix.entry(prefix.split('/')).open,
        }
    }

    fn fitting<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Place> {
        let segments = path.strip_prefix('/').into_iter();
        let prefixes = self.prefix.fitting(segments.flat_map(|s| s.split('/')));
        self.exact
            .get(path)
            .into_iter()
            .chain(prefixes.flat_map(|(prefixes, more)| {
                let below = more.then_some(&prefixes.below);
                below.into_iter().chain([&prefixes.open])
            }))
    }
}

/// One host and path: which route takes which method there.
#[derive(Debug, Default)]
struct Place {
    /// Sorted by method.
    listed: Vec<(Method, usize)>,
    /// The route that lists no methods.
    rest: Option<usize>,
}

impl Place {
    /// Enters a route, and returns the routes that already hold what it asks for.
    fn claim(&mut self, methods: &[Method], route: usize) -> BTreeSet<usize> {
        let mut holders = BTreeSet::new();
        if methods.is_empty() {
            holders.insert(*self.rest.get_or_insert(route));
        }
        for method in methods {
            match self.search(method) {
                Ok(at) => {
                    holders.insert(self.listed[at].1);
                }
                Err(at) => self.listed.insert(at, (method.clone(), route)),
            }
        }
        holders.remove(&route);
        holders
    }

    fn route(&self, method: &Method) -> Option<usize> {
        let listed = |method| self.search(method).ok().map(|at| self.listed[at].1);
        listed(method)
            .or_else(|| listed(&Method::GET).filter(|_| method == Method::HEAD))
            .or(self.rest)
    }

    fn allowed(&self) -> impl Iterator<Item = &Method> {
        let head = self.search(&Method::GET).ok().map(|_| &Method::HEAD);
        self.listed.iter().map(|(method, _)| method).chain(head)
    }

    fn search(&self, method: &Method) -> Result<usize, usize> {
        self.listed
            .binary_search_by(|(listed, _)| listed.as_str().cmp(method.as_str()))
    }
}

/// The labels of a host or a wildcard's suffix, from the right. What is before a leading dot is no label.
fn labels(name: &str) -> impl Iterator<Item = &str> {
    name.strip_prefix('.').unwrap_or(name).rsplit('.')
}

/// Values under names in sequence. A search looks each name up once and stops at the first unknown one, so that it never
/// goes deeper than what was entered, whatever a client sends.
#[derive(Debug)]
struct Tree<V> {
    /// The first is the root.
    nodes: Vec<Node<V>>,
}

#[derive(Debug, Default)]
struct Node<V> {
    value: V,
    parent: Option<usize>,
    children: HashMap<Box<str>, usize>,
}

impl<V: Default> Default for Tree<V> {
    fn default() -> Self {
        Tree {
            nodes: vec![Node::default()],
        }
    }
}

impl<V: Default> Tree<V> {
    /// The value under these names, made where there is none.
    fn entry<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> &mut V {
        let mut here = 0;
        for name in names {
            let next = self.nodes.len();
            let child = self.nodes[here].children.entry(name.into());
            let child = *child.or_insert(next);
            if child == next {
                self.nodes.push(Node {
                    parent: Some(here),
                    ..Node::default()
                });
            }
            here = child;
        }
        &mut self.nodes[here].value
    }

    /// The values on the way to these names, the deepest first, each with whether more names follow below it.
    fn fitting<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
    ) -> impl Iterator<Item = (&V, bool)> {
        let mut deepest = 0;
        let mut unknown = false;
        for name in names {
            match self.nodes[deepest].children.get(name) {
                Some(&child) => deepest = child,
                None => {
                    unknown = true;
                    break;
                }
            }
        }
        std::iter::successors(Some(deepest), |&node| self.nodes[node].parent)
            .map(move |node| (&self.nodes[node].value, unknown || node != deepest))
    }
}

#[cfg(test)]
mod tests {
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
        fn probes<'n>(tree: &Tree<Paths>, names: impl Iterator<Item = &'n str>) -> usize {
            let mut probes = 0;
            let _ = tree.fitting(names.inspect(|_| probes += 1)).count();
            probes
        }
        let mut tree = Tree::default();
        for names in ["a/b/c", "a", "x"] {
            let _: &mut Paths = tree.entry(names.split('/'));
        }
        let slashes = "/".repeat(8192);
        assert_eq!(probes(&tree, slashes.split('/')), 1);
        assert_eq!(probes(&tree, format!("a/b/c{slashes}").split('/')), 4);
        assert_eq!(probes(&tree, "a/x/y/z".split('/')), 2);
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
            HostPattern::Wildcard(suffix)
                if host.len() > suffix.len() && host.ends_with(suffix) =>
            {
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
}
