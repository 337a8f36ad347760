//! What finding a route costs as the configuration grows: the figures are to stay flat from 10 routes to 10,000.
//!
//! `make bench` runs it. It measures `policy::router` and `policy::target` alone; nothing is sent.

use backstop::policy::router::{Found, HostPattern, PathPattern, RouteMatch, Router};
use backstop::policy::target::{normalise_host, normalise_path};
use divan::{Bencher, black_box};
use http::Method;

fn main() {
    divan::main();
}

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// A tenth of the routes under hosts of their own, the rest under one host, three segments deep.
fn router(routes: usize) -> Router<usize> {
    let all = (0..routes)
        .map(|n| {
            let (host, path) = if n % 10 == 0 {
                (format!("tenant-{n}.example.com"), "/".to_owned())
            } else {
                (
                    "api.example.com".to_owned(),
                    format!("/v1/service-{n}/items"),
                )
            };
            let matches = RouteMatch {
                host: HostPattern::Exact(host),
                path: PathPattern::Prefix(path),
                methods: vec![],
            };
            (matches, n)
        })
        .collect();
    match Router::build(all) {
        Ok(router) => router,
        Err(_) => panic!("no two of these routes are alike"),
    }
}

fn find(router: &Router<usize>, host: &str, path: &str) -> Option<usize> {
    let host = normalise_host(black_box(host));
    let path = normalise_path(black_box(path)).ok()?;
    match router.find(&host, &path, &Method::GET) {
        Found::Route(n) => Some(*n),
        _ => None,
    }
}

#[divan::bench(args = SIZES)]
fn a_prefix_of_the_path(bencher: Bencher, routes: usize) {
    let router = router(routes);
    bencher.bench_local(|| {
        find(
            &router,
            "api.example.com:8080",
            "/v1/service-7/items/42?expand=all",
        )
    });
}

#[divan::bench(args = SIZES)]
fn a_host_among_many(bencher: Bencher, routes: usize) {
    let router = router(routes);
    bencher.bench_local(|| find(&router, "tenant-0.example.com", "/"));
}

#[divan::bench(args = SIZES)]
fn nothing(bencher: Bencher, routes: usize) {
    let router = router(routes);
    bencher.bench_local(|| find(&router, "api.example.com", "/v1/no-such-service/items"));
}
