//! The upstreams document: from the tree of values to what the proxy goes by.
//!
//! Called by `config::load`. Single values are checked where they are read; here is what concerns several at once: names that
//! must be defined or unique, keys that exclude each other, routes that no request can tell apart.

use super::access::{Entry, Lists};
use super::answers::AnswersSpec;
use super::block::BlockSpec;
use super::cache::{CacheSpec, lifetime_left_out};
use super::compress::CompressSpec;
use super::decode::{Decoded, decode};
use super::error_pages::{ErrorPagesSpec, PageFiles};
use super::fault::quoted;
use super::keypath::KeyPath;
use super::patterns::UpstreamName;
use super::plan::Routing;
use super::report::{Document, Report};
use super::require::RequireSpec;
use super::routes::{Base, DefaultsSpec, MatchSpec, RouteSpec};
use super::suggest;
use super::switch::Switch;
use super::tree::Node;
use super::upstreams::UpstreamSpec;
use crate::policy::router::{RouteMatch, Router};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// The document with everything filled in, for showing.
pub(crate) struct Resolved {
    pub(crate) block: Option<BlockSpec>,
    /// What the defaults say of answers that no route makes, if they say anything.
    pub(crate) unrouted: Option<AnswersSpec>,
    pub(crate) upstreams: Vec<(String, UpstreamSpec)>,
    pub(crate) routes: Vec<RouteSpec>,
}

/// The outline of the document. Its parts are read one by one, so that an error in one costs no further reading of others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with upstreams and routes")]
struct Outline {
    #[serde(rename = "defaults")]
    _defaults: Option<IgnoredAny>,
    #[serde(rename = "block")]
    _block: Option<IgnoredAny>,
    #[serde(rename = "upstreams")]
    _upstreams: Option<BTreeMap<UpstreamName, IgnoredAny>>,
    routes: Vec<IgnoredAny>,
}

/// Where errors go, and which document they are in.
struct Checks<'a> {
    document: Document,
    report: &'a mut Report,
    /// What paths are relative to.
    directory: &'a Path,
    /// The error pages that were read.
    pages: PageFiles,
    /// The position of each upstream.
    upstreams: HashMap<&'a str, usize>,
    /// Whether an upstream that is not there has certainly not been written.
    upstreams_known: bool,
    /// Whether the defaults say how long answers are stored, in a way that cannot be read.
    default_lifetime_left_out: bool,
    /// The first route that takes a cache from the defaults for which they do not say this.
    wants_default_lifetime: Option<usize>,
    /// What `allow` and `deny` hold.
    lists: Lists<'a>,
}

/// Compiles a document; paths in it are those of `directory`. Nothing comes back when anything was reported.
pub(crate) fn compile(
    root: &Node,
    document: Document,
    directory: &Path,
    report: &mut Report,
) -> Option<(Routing, Resolved)> {
    let before = report.count();
    let outline = decode::<Outline>(root, document, &KeyPath::default(), report);
    if outline.value.is_some_and(|o| o.routes.is_empty()) && outline.whole {
        let path = KeyPath::default().key("routes");
        report.add(document, path, "at least one route is needed");
    }

    let entries = match root.get("upstreams") {
        Some(Node::Map(entries)) => &entries[..],
        _ => &[],
    };
    let mut upstreams = Vec::with_capacity(entries.len());
    for (name, node) in entries {
        let path = KeyPath::default().key("upstreams").key(name);
        let Decoded { value, whole } = decode::<UpstreamSpec>(node, document, &path, report);
        if let Some(spec) = value {
            if whole {
                spec.check(document, &path, report);
            }
            upstreams.push((name.clone(), spec));
        }
    }
    let block = block(root, document, report);
    let mut checks = Checks {
        document,
        report,
        directory,
        pages: PageFiles::default(),
        upstreams: entries
            .iter()
            .enumerate()
            .map(|(i, (name, _))| (&**name, i))
            .collect(),
        upstreams_known: matches!(
            root.get("upstreams"),
            None | Some(Node::Null | Node::Map(_))
        ),
        default_lifetime_left_out: false,
        wants_default_lifetime: None,
        lists: Lists::new(directory),
    };

    let (base, default_upstream) = checks.defaults(root);
    let items = match root.get("routes") {
        Some(Node::List(items)) => &items[..],
        _ => &[],
    };
    let mut routes = Vec::with_capacity(items.len());
    for (i, node) in items.iter().enumerate() {
        let path = KeyPath::item("routes", i);
        let Decoded { value, whole } = decode::<RouteSpec>(node, document, &path, checks.report);
        if let Some(mut spec) = value {
            spec.error_pages = checks.within(spec.error_pages.as_ref());
            checks.route(&spec, &path, whole, default_upstream);
            let waits = spec
                .retry
                .as_ref()
                .is_some_and(|retry| retry.wait.is_some());
            let own_cache = spec.cache.clone();
            let own = whole.then(|| spec.clone());
            let spec = spec.over(&base);
            if let Some(own) = own {
                checks.limits(&own, &spec, &path);
            }
            checks.cache(own_cache.as_ref(), &spec, node, i);
            let wait = spec
                .retry
                .as_ref()
                .and_then(|retry| retry.wait)
                .filter(|_| waits);
            if let Some(contradiction) = wait.and_then(|wait| wait.contradiction()) {
                checks.add(path.key("retry").key("wait"), contradiction);
            }
            routes.push((i, whole, spec));
        }
    }
    checks.default_lifetime();
    checks.names(&mut routes);

    let Checks {
        upstreams: index,
        report,
        mut lists,
        pages,
        ..
    } = checks;
    if report.count() > before {
        let whole = routes.iter().filter(|(_, whole, _)| *whole);
        let matches = whole.map(|(i, _, spec)| (*i, spec.matches(), ())).collect();
        router(matches, document, report);
        return None;
    }
    let running: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(at, (_, _, spec))| Arc::new(spec.compile(at, &index, directory, &pages, &mut lists)))
        .collect();
    let compiled = routes
        .iter()
        .zip(&running)
        .map(|((i, _, spec), route)| (*i, spec.matches(), route.clone()))
        .collect();
    let router = router(compiled, document, report)?;
    let plans = upstreams
        .iter()
        .map(|(name, spec)| spec.compile(name))
        .collect();
    let filled = upstreams
        .into_iter()
        .map(|(name, spec)| (name, spec.filled()))
        .collect();
    let unrouted = base.unrouted();
    Some((
        Routing {
            unrouted: unrouted.compile(&pages),
            routes: running,
            router,
            upstreams: plans,
            block: block.as_ref().map(BlockSpec::compile),
        },
        Resolved {
            block,
            unrouted: (!unrouted.is_off()).then_some(unrouted),
            upstreams: filled,
            routes: routes.into_iter().map(|(_, _, spec)| spec).collect(),
        },
    ))
}

/// Reads `block`.
fn block(root: &Node, document: Document, report: &mut Report) -> Option<BlockSpec> {
    let path = KeyPath::default().key("block");
    let decoded = decode::<Option<BlockSpec>>(root.get("block")?, document, &path, report);
    let spec = decoded.value.flatten()?;
    if decoded.whole {
        spec.check(document, &path, report);
    }
    Some(spec)
}

/// Builds the router, or reports which routes cannot be told apart. The number of each is its position in the file.
fn router<T>(
    routes: Vec<(usize, RouteMatch, T)>,
    document: Document,
    report: &mut Report,
) -> Option<Router<T>> {
    let positions: Vec<usize> = routes.iter().map(|(i, _, _)| *i).collect();
    let at = |i: usize| positions.get(i).copied().unwrap_or(i);
    match Router::build(routes.into_iter().map(|(_, m, route)| (m, route)).collect()) {
        Ok(router) => Some(router),
        Err(conflicts) => {
            for conflict in conflicts {
                let path = KeyPath::item("routes", at(conflict.second));
                let problem = report.add(document, path, "matches the same requests as");
                problem.see = Some(KeyPath::item("routes", at(conflict.first)));
                problem.help = Some("give them different hosts, paths or methods".to_string());
            }
            None
        }
    }
}

impl Checks<'_> {
    fn add(&mut self, path: KeyPath, message: impl Into<String>) {
        self.report.add(self.document, path, message);
    }

    fn add_help(&mut self, path: KeyPath, message: impl Into<String>, help: impl Into<String>) {
        self.report.add(self.document, path, message).help = Some(help.into());
    }

    /// Reads `defaults`; tells also whether they name an upstream, as far as that can be told.
    fn defaults(&mut self, root: &Node) -> (Base, bool) {
        let path = KeyPath::default().key("defaults");
        let Some(node) = root.get("defaults") else {
            return (Base::new(DefaultsSpec::default()), false);
        };
        let decoded = decode::<Option<DefaultsSpec>>(node, self.document, &path, self.report);
        let mut spec = decoded.value.flatten().unwrap_or_default();
        spec.error_pages = self.within(spec.error_pages.as_ref());
        if let Some(name) = &spec.upstream {
            self.defined(&name.0, path.key("upstream"));
        }
        let wait = spec.retry.as_ref().and_then(|retry| retry.wait);
        if let Some(contradiction) = wait.and_then(|wait| wait.contradiction()) {
            self.add(path.key("retry").key("wait"), contradiction);
        }
        self.lists((spec.allow.as_deref(), spec.deny.as_deref()), &path);
        self.default_lifetime_left_out = lifetime_left_out(Some(node), spec.cache.as_ref());
        if let Some(cache) = &spec.cache {
            self.lifetime(cache, cache, &path.key("cache"));
        }
        if let Some(compress) = &spec.compress {
            self.compress(compress, &path.key("compress"), decoded.whole);
        }
        if decoded.whole {
            if let Some(hedge) = spec.hedge.as_ref().and_then(Switch::on) {
                hedge.check(self.document, &path.key("hedge"), self.report);
            }
            if let Some(places) = spec.concurrency.as_ref().and_then(Switch::on) {
                places.check_part(self.document, &path.key("concurrency"), self.report);
            }
            if let Some(rate) = spec.rate_limit.as_ref().and_then(Switch::on) {
                rate.check(self.document, &path.key("rate_limit"), self.report);
            }
            if let Some(require) = spec.require.as_ref().and_then(Switch::on) {
                require.check(self.document, &path.key("require"), self.report);
            }
            if let Some(cors) = spec.cors.as_ref().and_then(Switch::on) {
                cors.check(self.document, &path.key("cors"), self.report);
            }
            self.error_pages(spec.error_pages.as_ref(), &path);
        }
        let upstream = spec.upstream.is_some() || !decoded.whole;
        (Base::new(spec), upstream)
    }

    /// Reads the files that `allow` and `deny` name, and reports what is wrong with them.
    fn lists(&mut self, (allow, deny): (Option<&[Entry]>, Option<&[Entry]>), path: &KeyPath) {
        for (key, list) in [("allow", allow), ("deny", deny)] {
            let (document, report) = (self.document, &mut *self.report);
            self.lists.read(list.unwrap_or_default(), |i, why| {
                report.add(document, path.key(key).index(i).key("file"), why);
            });
        }
    }

    /// The same pages, their paths being absolute.
    fn within(&self, pages: Option<&Switch<ErrorPagesSpec>>) -> Option<Switch<ErrorPagesSpec>> {
        pages.map(|pages| pages.map(|pages| pages.within(self.directory)))
    }

    /// Reads the error pages of what is at `path`.
    fn error_pages(&mut self, pages: Option<&Switch<ErrorPagesSpec>>, path: &KeyPath) {
        if let Some(pages) = pages.and_then(Switch::on) {
            let path = path.key("error_pages");
            self.pages.read(pages, self.document, &path, self.report);
        }
    }

    /// Reports a name that no upstream has.
    fn defined(&mut self, name: &str, path: KeyPath) {
        /// Errors after which no more names are compared: theirs would not be shown.
        const ENOUGH: usize = 500;
        if self.upstreams.contains_key(name) || !self.upstreams_known {
            return;
        }
        let mut names: Vec<&str> = Vec::new();
        if self.report.count() < ENOUGH {
            names.extend(self.upstreams.keys());
            names.sort_by_key(|name| self.upstreams[name]);
        }
        let help = suggest::help(name, names.into_iter(), "defined");
        let message = format!("no upstream is named {}", quoted(name));
        self.report.add(self.document, path, message).help = help;
    }

    /// Reports what is wrong with a route by itself.
    fn route(&mut self, spec: &RouteSpec, path: &KeyPath, whole: bool, default_upstream: bool) {
        if let Some(name) = &spec.upstream {
            self.defined(&name.0, path.key("upstream"));
        }
        self.lists((spec.allow.as_deref(), spec.deny.as_deref()), path);
        let actions = [
            spec.upstream.is_some(),
            spec.respond.is_some(),
            spec.redirect.is_some(),
        ];
        match actions.into_iter().filter(|given| *given).count() {
            0 if whole && !default_upstream => self.add_help(
                path.clone(),
                "the route does nothing",
                "give one of upstream, respond and redirect",
            ),
            0 | 1 => {}
            _ => self.add(
                path.clone(),
                "only one of upstream, respond and redirect can be given",
            ),
        }
        if spec.answers_itself() {
            let request = spec
                .headers
                .as_ref()
                .is_some_and(|headers| headers.request.is_some());
            for (given, key) in [
                (spec.strip_prefix.is_some(), "strip_prefix"),
                (spec.set_path.is_some(), "set_path"),
                (spec.retry.is_some(), "retry"),
                (spec.timeouts.is_some(), "timeouts"),
                (spec.hedge.is_some(), "hedge"),
                (spec.concurrency.is_some(), "concurrency"),
                (spec.canary.is_some(), "canary"),
                (spec.mirror.is_some(), "mirror"),
                (spec.cache.is_some(), "cache"),
                (spec.compress.is_some(), "compress"),
            ] {
                if given {
                    self.add(
                        path.key(key),
                        "has no effect in a route without an upstream",
                    );
                }
            }
            let require = spec.require.as_ref().and_then(Switch::on);
            if require.is_some_and(RequireSpec::wants_json) {
                let key = path.key("require").key("json");
                self.add(key, "has no effect in a route without an upstream");
            }
            if request {
                let key = path.key("headers").key("request");
                self.add(key, "has no effect in a route without an upstream");
            }
        }
        self.others(spec, path);
        if let Some(matches) = &spec.r#match {
            self.matches(matches, &path.key("match"), whole);
        }
        self.rewrite(spec, path, whole);
        if let Some(compress) = &spec.compress {
            self.compress(compress, &path.key("compress"), whole);
        }
        if let Some(respond) = &spec.respond {
            let bodiless = matches!(respond.status.0, 204 | 205 | 304);
            if bodiless && respond.body.as_ref().is_some_and(|body| !body.is_empty()) {
                let message = format!("a {} has no body", respond.status.0);
                self.add(path.key("respond").key("body"), message);
            }
        }
    }

    /// Reports what is wrong with the other upstreams that a route names.
    fn others(&mut self, spec: &RouteSpec, path: &KeyPath) {
        if let Some(canary) = &spec.canary {
            let path = path.key("canary");
            self.defined(&canary.upstream.0, path.key("upstream"));
            canary.check(self.document, &path, self.report);
        }
        if let Some(mirror) = &spec.mirror {
            self.defined(&mirror.upstream.0, path.key("mirror").key("upstream"));
        }
    }

    /// Reports what is wrong with the limits of a route, once they are merged. What only the defaults say is reported there.
    fn limits(&mut self, own: &RouteSpec, merged: &RouteSpec, path: &KeyPath) {
        if let Some(hedge) = own.hedge.as_ref().and_then(Switch::on) {
            hedge.check(self.document, &path.key("hedge"), self.report);
        }
        if let Some(require) = own.require.as_ref().and_then(Switch::on) {
            require.check(self.document, &path.key("require"), self.report);
        }
        if let Some(auth) = merged.auth.as_ref().and_then(Switch::on) {
            auth.check(self.document, &path.key("auth"), self.report);
            if let Some(name) = auth.upstream() {
                self.defined(name, path.key("auth").key("forward").key("upstream"));
            }
        }
        if own.cors.is_some()
            && let Some(cors) = merged.cors.as_ref().and_then(Switch::on)
        {
            cors.check(self.document, &path.key("cors"), self.report);
        }
        self.error_pages(own.error_pages.as_ref(), path);
        if let Some(places) = merged.concurrency.as_ref().and_then(Switch::on)
            && (own.concurrency.is_some() || places.lacks_max())
        {
            places.check(self.document, &path.key("concurrency"), self.report);
        }
        if own.rate_limit.is_some()
            && let Some(rate) = merged.rate_limit.as_ref().and_then(Switch::on)
        {
            rate.check(self.document, &path.key("rate_limit"), self.report);
        }
    }

    /// Reports what is wrong with the cache of route number `i` once it is `merged`; `own` is what the route itself says of it.
    fn cache(&mut self, own: Option<&CacheSpec>, merged: &RouteSpec, node: &Node, i: usize) {
        let Some(cache) = &merged.cache else {
            return;
        };
        let path = KeyPath::item("routes", i).key("cache");
        if lifetime_left_out(Some(node), own) {
            return;
        }
        if let Some(own) = own {
            self.lifetime(own, cache, &path);
        }
        if cache.lacks_lifetime() && !self.default_lifetime_left_out {
            match own {
                Some(_) => self.add_help(
                    path.key("ttl"),
                    "required, but missing",
                    "or write respect_origin: true, to store answers as long as the upstream says",
                ),
                None => {
                    self.wants_default_lifetime.get_or_insert(i);
                }
            }
        }
    }

    /// Reports what a `cache` says that excludes each other, by itself or once it is `merged`.
    fn lifetime(&mut self, own: &CacheSpec, merged: &CacheSpec, path: &KeyPath) {
        if own.contradicts_itself() {
            self.add_help(
                path.clone(),
                "only one of ttl and respect_origin can be given",
                "ttl holds whatever the upstream says of its answers, respect_origin goes by what it says",
            );
        } else if own.shares_for_the_origin(merged) {
            self.add_help(
                path.key("shared"),
                "the origin says who shares: with respect_origin this has no effect",
                "leave it out, or give a ttl instead of respect_origin",
            );
        }
    }

    /// Reports lists in which nothing stands, or something twice.
    fn compress(&mut self, compress: &CompressSpec, path: &KeyPath, whole: bool) {
        if !whole {
            return;
        }
        for key in compress.empty_lists() {
            self.add_help(
                path.key(key),
                "nothing is listed",
                "write compress: off to compress nothing",
            );
        }
        for (key, first, second, what) in compress.repeated() {
            let message = format!("{what} is listed twice: also");
            let problem = self
                .report
                .add(self.document, path.key(key).index(second), message);
            problem.see = Some(path.key(key).index(first));
        }
    }

    /// Reports a cache of the defaults that does not say how long answers are stored, if any route takes it as it is.
    fn default_lifetime(&mut self) {
        let Some(route) = self.wants_default_lifetime else {
            return;
        };
        let path = KeyPath::default().key("defaults").key("cache").key("ttl");
        let problem = self
            .report
            .add(self.document, path, "missing, but needed by");
        problem.see = Some(KeyPath::item("routes", route));
        problem.help = Some(
            "give it or respect_origin: true here or in the route, or write cache: off there"
                .to_string(),
        );
    }

    fn matches(&mut self, matches: &MatchSpec, path: &KeyPath, whole: bool) {
        if matches.path.is_some() && matches.exact_path.is_some() {
            self.add(path.clone(), "only one of path and exact_path can be given");
        }
        if whole && matches.methods.as_ref().is_some_and(Vec::is_empty) {
            self.add_help(
                path.key("methods"),
                "no method is listed",
                "leave methods out to match all of them",
            );
        }
    }

    fn rewrite(&mut self, spec: &RouteSpec, path: &KeyPath, whole: bool) {
        if spec.strip_prefix.is_some() && spec.set_path.is_some() {
            self.add(
                path.clone(),
                "only one of strip_prefix and set_path can be given",
            );
        }
        let Some(prefix) = spec.strip_prefix.as_ref().filter(|_| whole) else {
            return;
        };
        let of = spec.r#match.as_ref().map_or("/", MatchSpec::path);
        let bare = prefix.0.trim_end_matches('/');
        let rest = of.trim_end_matches('/').strip_prefix(bare);
        if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            self.add(
                path.key("strip_prefix"),
                format!(
                    "{} is not the beginning of the route's path {}",
                    quoted(&prefix.0),
                    quoted(of)
                ),
            );
        }
    }

    /// Names the routes that have no name, and reports names that are given twice.
    fn names(&mut self, routes: &mut [(usize, bool, RouteSpec)]) {
        let mut uses: HashMap<String, usize> = HashMap::new();
        for (_, _, spec) in routes.iter() {
            *uses
                .entry(
                    spec.name
                        .as_ref()
                        .map_or_else(|| spec.default_name(), |n| n.0.clone()),
                )
                .or_default() += 1;
        }
        let mut holders: HashMap<String, (usize, Option<RouteMatch>)> = HashMap::new();
        for (i, whole, spec) in routes.iter_mut() {
            let given = spec.name.is_some();
            let name = spec.take_name(|name| uses.get(name).is_some_and(|uses| *uses > 1));
            // The match of a route with a name of its own does not matter; that of a broken one is not known.
            if !given && !*whole {
                continue;
            }
            let own = (!given).then(|| spec.matches());
            let Some((first, other)) = holders.get(&name) else {
                holders.insert(name, (*i, own));
                continue;
            };
            // Two routes without names that match the same are reported for that.
            if own.is_some() && own == *other {
                continue;
            }
            let path = KeyPath::item("routes", *i);
            let path = if given { path.key("name") } else { path };
            let message = format!("the name {} is taken by", quoted(&name));
            let problem = self.report.add(self.document, path, message);
            problem.see = Some(KeyPath::item("routes", *first));
        }
    }
}
