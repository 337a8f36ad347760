//! The page in a browser: it follows by itself, at any width, light and dark, for those who see it and those who hear it.

use crate::admin::with_admin;
use crate::browser::Browser;
use crate::client::{get, request};
use crate::harness::{Proxy, eventually, until};
use crate::origin::Origin;
use crate::reply::Reply;
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A little of everything that the page can show.
fn config(flaky: u16, fine: u16) -> String {
    format!(
        "upstreams:
  pool: {{ eject: {{ time: 1s }}, backends: [127.0.0.1:{flaky}, 127.0.0.1:{fine}] }}
  new: {{ backends: [127.0.0.1:{fine}] }}
  lone: {{ eject: off, backends: [127.0.0.1:{flaky}] }}
routes:
  - {{ name: orders, match: {{ path: /orders }}, upstream: pool, slo: 99.9%, retry: {{ tries: 3, wait: 1ms }}, concurrency: {{ max: 50 }} }}
  - {{ name: search, match: {{ path: /search }}, upstream: pool, canary: {{ upstream: new, steps: [5%, 25%, 100%], every: 10m }} }}
  - {{ name: catalogue, match: {{ path: /catalogue }}, upstream: pool, cache: {{ ttl: 1h }} }}
  - {{ name: lone, match: {{ path: /lone }}, upstream: lone, retry: {{ tries: 1 }} }}
  - {{ name: robots, match: {{ path: /robots.txt }}, respond: {{ status: 200, body: none }} }}
"
    )
}

struct Scene {
    failing: Arc<AtomicBool>,
    proxy: Proxy,
    admin: u16,
    origins: [Origin; 2],
}

fn scene() -> Scene {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = failing.clone();
    let flaky = Origin::new(move |_| match fails.load(Ordering::Relaxed) {
        true => Reply::status(500),
        false => Reply::ok("hello"),
    });
    let fine = Origin::always(Reply::ok("hello"));
    let (setup, admin) = with_admin();
    let proxy = setup.start(&config(flaky.port, fine.port));
    Scene {
        failing,
        proxy,
        admin,
        origins: [flaky, fine],
    }
}

fn open(browser: &Browser, admin: u16) {
    browser.open(&format!("http://127.0.0.1:{admin}/"));
}

/// The texts of the cells of a table, row by row.
fn rows(browser: &Browser, section: &str) -> Vec<Vec<String>> {
    let script = format!(
        "return [...document.querySelectorAll('#{section} tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    );
    serde_json::from_value(browser.run(&script)).unwrap()
}

#[test]
fn the_page_follows_backends_that_fail_and_recover() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let scene = scene();
    let (proxy, admin, origins) = (&scene.proxy, scene.admin, &scene.origins);
    browser.look(1280, 900, "light");
    open(&browser, admin);
    until("it follows", || {
        browser.run("return document.getElementById('live').textContent") == "live"
    });
    let flaky = format!("127.0.0.1:{}", origins[0].port);
    let backend = || {
        let rows = rows(&browser, "upstreams");
        let row = rows.into_iter().find(|row| row[0] == flaky);
        row.unwrap_or_else(|| panic!("no row of {flaky}"))
    };
    assert_eq!(backend()[1], "up");

    scene.failing.store(true, Ordering::Relaxed);
    until("it is shown as ejected", || {
        // Clients see nothing of it.
        assert_eq!(get(proxy.port, "/orders").status, 200);
        backend()[1] == "ejected"
    });
    assert!(backend()[6].starts_with("status 500 ("), "{:?}", backend());
    assert_eq!(get(proxy.port, "/lone").status, 500);
    let line = proxy.logged("/lone");
    let id = line["request_id"].as_str().unwrap();
    until("the failure is shown", || {
        rows(&browser, "failures").iter().any(|row| row[6] == id)
    });
    let row = &rows(&browser, "failures")[0];
    assert_eq!((&*row[1], &*row[2], &*row[3]), ("GET /lone", "500", "lone"));

    // What somebody has selected stays, though there is news.
    let select = "getSelection().selectAllChildren(document.querySelector('#failures code'))";
    browser.run(select);
    get(proxy.port, "/lone");
    let news = || {
        // How long it runs is there, if nothing else.
        let read = || browser.run("return document.getElementById('process').textContent");
        let before = read();
        until("something new is shown", || read() != before);
    };
    news();
    assert_eq!(browser.run("return String(getSelection())"), id);
    let said = browser.run("return document.getElementById('live').textContent");
    assert_eq!(
        said,
        "live, but for the part in which something is selected"
    );
    browser.run("getSelection().removeAllRanges()");
    until("the next failure is shown", || {
        rows(&browser, "failures").len() == 2
    });

    // What a reader of screens has read out is not put there anew.
    proxy.reload_refused("routes: []");
    let notice = "document.getElementById('n-reload')";
    until("the notice", || {
        browser.run(&format!("return !!{notice}")) == true
    });
    browser.run(&format!("{notice}.heard = true"));
    news();
    assert_eq!(browser.run(&format!("return {notice}.heard")), true);

    scene.failing.store(false, Ordering::Relaxed);
    until("it is up again", || {
        get(proxy.port, "/orders");
        backend()[1] == "up"
    });
    proxy.reload_with(&config(origins[0].port, origins[1].port));
    until("the notice is gone", || {
        browser.run(&format!("return !!{notice}")) == false
    });

    // Who is at a table stays there, whatever changes in it.
    let table = "document.querySelector('#upstreams .scroll')";
    browser.run(&format!("window.table = {table}; window.table.focus()"));
    get(proxy.port, "/orders");
    news();
    let focused = browser.run("return document.activeElement === window.table");
    assert_eq!(focused, true);

    // The ways to its parts.
    browser.run("document.querySelector('nav a[href=\"#cache\"]').click()");
    assert_eq!(browser.run("return location.hash"), "#cache");
    assert_eq!(browser.console(), Vec::<String>::new());
    proxy.signal(Signal::KILL);
    until("it says that it is old", || {
        let live = browser.run("return document.getElementById('live').textContent");
        live.as_str().unwrap().contains("what is shown is old")
    });
}

#[test]
fn every_route_every_queue_and_the_cache_are_on_it() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let scene = scene();
    let (proxy, admin) = (&scene.proxy, scene.admin);
    for path in [
        "/orders",
        "/search",
        "/catalogue",
        "/catalogue",
        "/robots.txt",
    ] {
        until("it is there", || get(proxy.port, path).status == 200);
    }
    browser.without_scripts();
    until("all is counted", || {
        open(&browser, admin);
        let routes = rows(&browser, "routes");
        let is_there = |row: &Vec<String>| row[0] == "lone" || row[1] != "0";
        // Of two requests the second may be counted first, by another worker.
        let is_whole = routes
            .get(2)
            .is_some_and(|catalogue| catalogue[7] == "50 %");
        routes.iter().all(is_there) && is_whole
    });
    let routes = rows(&browser, "routes");
    let names: Vec<&str> = routes.iter().map(|row| &*row[0]).collect();
    assert_eq!(names, ["orders", "search", "catalogue", "lone", "robots"]);
    assert!(routes[0][8].contains("objective 99.9 %"), "{routes:?}");
    assert_eq!(routes[4][8], "answers at once");
    let canary = &rows(&browser, "canaries")[0];
    assert_eq!(canary[..3], ["search", "5 %", "5 % → 25 % → 100 %"]);
    assert!(
        canary[3].starts_with("in ") && canary[6] == "in force",
        "{canary:?}"
    );
    let queue = &rows(&browser, "queues")[0];
    assert_eq!(queue[..4], ["route orders", "0", "50", "0"]);
    let memory = &rows(&browser, "cache")[0];
    assert_eq!(memory[..2], ["memory", "1"]);
}

#[test]
fn everybody_can_use_it() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let scene = scene();
    let (proxy, admin) = (&scene.proxy, scene.admin);
    scene.failing.store(true, Ordering::Relaxed);
    get(proxy.port, "/orders");
    until("a failure", || get(proxy.port, "/lone").status == 500);
    proxy.reload_refused("routes: []");
    until("there are charts", || {
        let page = request(admin, "GET", "/", &[("Host", "localhost")], b"").text();
        page.contains("<polyline")
    });
    for (width, scheme) in [(1280, "light"), (1280, "dark"), (400, "light")] {
        browser.look(width, 900, scheme);
        open(&browser, admin);
        if let Some(violations) = browser.violations() {
            assert_eq!(violations, Vec::<String>::new(), "{width} {scheme}");
        }
        let wide = browser.run("return document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= width.into(), "{wide} of {width}");
    }
    // One of several, for other tests run at the same time.
    until("it is painted within 100 ms", || {
        open(&browser, admin);
        let paint = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
        let painted = eventually("it is painted", || browser.run(paint).as_f64());
        eprintln!("painted after {painted} ms");
        painted < 100.0
    });
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// The pictures in docs: `PICTURES=docs cargo test --test e2e -- pictures`. Takes two minutes.
#[test]
fn pictures_of_the_page() {
    let Some(directory) = std::env::var_os("PICTURES") else {
        return;
    };
    let browser = Browser::start().unwrap();
    let scene = scene();
    let (proxy, admin) = (&scene.proxy, scene.admin);
    let points = || {
        open(&browser, admin);
        let drawn = browser
            .run("return document.querySelector('#charts polyline')?.points.numberOfItems ?? 0");
        drawn.as_u64().unwrap_or(0)
    };
    // Fine, then flaky, then fine again.
    for (until_point, share) in [(4, 0_u64), (8, 3), (12, 0)] {
        let mut turn = 0;
        while points() < until_point {
            for n in 0..40 {
                turn += 1;
                scene
                    .failing
                    .store(share > 0 && turn % 10 < share, Ordering::Relaxed);
                let path = ["/orders", "/search", "/catalogue", "/robots.txt"][n % 4];
                get(proxy.port, path);
            }
            if share > 0 && turn <= 160 {
                get(proxy.port, "/lone");
            }
        }
    }
    for (width, scheme) in [(400, "light"), (800, "light"), (1280, "dark")] {
        browser.look(width, 700, scheme);
        open(&browser, admin);
        let path = std::path::Path::new(&directory).join(format!("page-{width}.png"));
        std::fs::write(path, browser.picture()).unwrap();
    }
}
