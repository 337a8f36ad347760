//! Which route a request belongs to, by host, path and method.
//!
//! `config` builds the table at load and reports the conflicts; `proxy` asks it once per request, with the host and path
//! as `policy::target` has normalised them. The order in which routes are written never matters. Nothing is decoded or
//! folded here, and what a route does is not known here.

use foldhash::fast::RandomState;
use http::Method;
use std::collections::{BTreeSet, HashMap};

/// Its keys are the operator's, whatever is looked for.
type Table<K, V> = HashMap<K, V, RandomState>;

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
    exact: Table<String, Paths>,
    /// By labels from the right: `com`, `example`.
    wildcard: Tree<Paths>,
    any: Paths,
}

impl<T> Found<'_, T> {
    /// Whether another request was found the same: the same route, or none for the same reason.
    pub fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Found::Route(one), Found::Route(other)) => std::ptr::eq(*one, *other),
            (Found::MethodNotAllowed(one), Found::MethodNotAllowed(other)) => one == other,
            (Found::NotFound, Found::NotFound) => true,
            _ => false,
        }
    }
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
            exact: Table::default(),
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
        let mut index = None;
        self.visit(host, path, |place| {
            index = place.route(method);
            index.is_some()
        });
        match index {
            Some(index) => Found::Route(&self.routes[index]),
            None => self.lacking(host, path),
        }
    }

    /// What is to be said where none is found.
    #[cold]
    fn lacking(&self, host: &str, path: &str) -> Found<'_, T> {
        let mut allowed: Vec<Method> = Vec::new();
        self.visit(host, path, |place| {
            allowed.extend(place.allowed().cloned());
            false
        });
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

    /// Visits every place that fits host and path, the most specific first, until one is the last: so this says.
    fn visit<'a>(&'a self, host: &str, path: &str, mut is_last: impl FnMut(&'a Place) -> bool) {
        if let Some(paths) = get(&self.exact, host)
            && paths.visit(path, &mut is_last)
        {
            return;
        }
        let in_wildcard = |paths: &'a Paths, more: bool| more && paths.visit(path, &mut is_last);
        if !self.wildcard.visit(labels(host), in_wildcard) {
            self.any.visit(path, &mut is_last);
        }
    }
}

/// The paths of one host pattern.
#[derive(Debug, Default)]
struct Paths {
    exact: Table<String, Place>,
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
            Some(parent) => &mut self.prefix.entry(segments(parent)).below,
            None => &mut self.prefix.entry(segments(prefix)).open,
        }
    }

    /// Says whether one was the last.
    fn visit<'a>(&'a self, path: &str, is_last: &mut impl FnMut(&'a Place) -> bool) -> bool {
        if let Some(place) = get(&self.exact, path)
            && is_last(place)
        {
            return true;
        }
        let in_prefixes = |prefixes: &'a Prefixes, more: bool| {
            more && is_last(&prefixes.below) || is_last(&prefixes.open)
        };
        match path.strip_prefix('/') {
            Some(below) => self.prefix.visit(segments(below), in_prefixes),
            None => self.prefix.visit([].into_iter(), in_prefixes),
        }
    }
}

/// What a table has for a name. Most tables are empty, and then it need not be hashed.
fn get<'a, V>(table: &'a Table<String, V>, name: &str) -> Option<&'a V> {
    match table.is_empty() {
        true => None,
        false => table.get(name),
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
fn labels(name: &str) -> impl Iterator<Item = &[u8]> {
    let name = name.strip_prefix('.').unwrap_or(name).as_bytes();
    // Byte by byte, here and below: looking for a character in a text this short takes several times as long.
    name.rsplit(|byte| *byte == b'.')
}

/// The segments of a path without its first slash, from the left.
fn segments(path: &str) -> impl Iterator<Item = &[u8]> {
    path.as_bytes().split(|byte| *byte == b'/')
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
    children: Table<Box<[u8]>, usize>,
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
    fn entry<'n>(&mut self, names: impl Iterator<Item = &'n [u8]>) -> &mut V {
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

    /// Visits the values on the way to these names, the deepest first, each with whether more names follow below it, until one is
    /// the last: so this says. Says whether one was.
    fn visit<'a, 'n>(
        &'a self,
        names: impl Iterator<Item = &'n [u8]>,
        mut is_last: impl FnMut(&'a V, bool) -> bool,
    ) -> bool {
        let mut node = &self.nodes[0];
        let mut more = false;
        for name in names {
            more = true;
            let child = match node.children.is_empty() {
                true => None,
                false => node.children.get(name),
            };
            let Some(&child) = child else { break };
            more = false;
            node = &self.nodes[child];
        }
        loop {
            if is_last(&node.value, more) {
                return true;
            }
            let Some(parent) = node.parent else {
                return false;
            };
            node = &self.nodes[parent];
            more = true;
        }
    }
}

#[cfg(test)]
mod tests;
