//! A crowd: 50 people ask for 100 URLs on routes with all kinds of rules, 100,000 times, and nobody gets what was made for
//! another.

use crate::client::{Answer, Client};
use crate::client2::Client2;
use crate::harness::Proxy;
use crate::origin::Origin;
use crate::reply::{Reply, Request};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

const PEOPLE: usize = 50;
const URLS: usize = 100;
const REQUESTS: usize = 100_000;
const THREADS: usize = 16;
/// Of those, speak HTTP/2.
const BY_HTTP2: usize = 4;
/// Asked for on one connection before the first answer is read.
const BATCH: usize = 25;
/// Batches of one connection: with few that stay, one worker of the proxy may have them all.
const BATCHES: usize = 25;

type Lines = Vec<(&'static str, String)>;
/// Name, how many, rules, and what the origin says.
type Kind = (
    &'static str,
    usize,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Kinds of URLs: the first segment of the path, how many of a hundred are of that kind, the rules, and what the origin says
/// of caching.
const KINDS: [Kind; 8] = [
    ("ttl", 22, "ttl: 1h", &[]),
    ("short", 18, "ttl: 12s, stale_while_revalidate: 1h", &[]),
    ("cookie", 16, "ttl: 1h, per: [{ cookie: session }]", &[]),
    ("header", 15, "ttl: 1h, per: [{ header: X-Tenant }]", &[]),
    (
        "public",
        10,
        "respect_origin: true",
        &[("Cache-Control", "public, max-age=12")],
    ),
    (
        "vary",
        15,
        "respect_origin: true",
        &[
            ("Cache-Control", "public, max-age=12"),
            ("Vary", "Authorization"),
        ],
    ),
    (
        "private",
        2,
        "respect_origin: true, stale_if_error: 1h",
        &[("Cache-Control", "private, max-age=600")],
    ),
    (
        "unsaid",
        2,
        "respect_origin: true, stale_if_error: 1h",
        &[("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
    ),
];

fn path(url: usize) -> String {
    let mut first = 0;
    let kind = KINDS.iter().find(|(_, count, ..)| {
        first += count;
        url < first
    });
    format!("/{}/{url}", kind.expect("a kind").0)
}

/// What a person sends with a request for this path.
fn credentials(person: usize, path: &str) -> Lines {
    let token = ("authorization", format!("Bearer token-of-{person}"));
    let cookie = ("cookie", format!("theme=dark; session=secret-of-{person}"));
    let tenant = ("x-tenant", format!("tenant-{person}"));
    match person % 3 {
        _ if path.starts_with("/header/") && person.is_multiple_of(2) => vec![tenant],
        0 => vec![token, cookie, tenant],
        1 => vec![token, tenant],
        _ => vec![cookie, tenant],
    }
}

/// Whom an answer is for: nobody may see another's, where the origin has not said that it is for more.
fn name(path: &str, value: impl Fn(&str) -> String) -> String {
    match path.split('/').nth(1) {
        Some("public") => "everybody".into(),
        Some("vary") => format!("<{}>", value("authorization")),
        Some("header") => format!(
            "<{}, {}, {}>",
            value("x-tenant"),
            value("authorization"),
            value("cookie")
        ),
        _ => format!("<{}, {}>", value("authorization"), value("cookie")),
    }
}

fn name_of(lines: &Lines, path: &str) -> String {
    name(path, |name| {
        let line = lines.iter().find(|(n, _)| *n == name);
        line.map(|(_, v)| v.clone()).unwrap_or_default()
    })
}

/// What the origin makes for a name: with the name early, so that every range of the beginning has it.
fn body(name: &str, path: &str) -> String {
    format!("{name} asks for {path}, {}", "0123456789".repeat(20))
}

fn tag(body: &str) -> String {
    let hash = body.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    format!("\"{hash:x}\"")
}

/// Bytes from the first to before the second.
fn slice(range: &str, body: &str) -> (usize, usize) {
    let (first, last) = range["bytes=".len()..].split_once('-').expect("a range");
    let last = last.parse().map_or(body.len(), |last: usize| last + 1);
    (first.parse().expect("a number"), last.min(body.len()))
}

/// Echoes who asked, in the head and in the body.
fn echo(r: &Request) -> Reply {
    let who = name(&r.target, |name| r.all(name).concat());
    let (body, kind) = (body(&who, &r.target), r.target.split('/').nth(1));
    let said = KINDS.iter().find(|(name, ..)| Some(*name) == kind);
    let tag = tag(&body);
    let mut lines = vec![("X-Who", who.as_str()), ("ETag", tag.as_str())];
    lines.extend(said.expect("a kind").3);
    if r.all("if-none-match").contains(&tag.as_str()) {
        let lines = lines.iter().map(|(n, v)| format!("{n}: {v}\r\n"));
        let lines: String = lines.collect();
        return Reply::raw(format!("HTTP/1.1 304 Not Modified\r\n{lines}\r\n"));
    }
    let Some(range) = r.header("range").filter(|_| r.method == "GET") else {
        return Reply::answer(200, &lines, body.as_bytes());
    };
    let (from, to) = slice(range, &body);
    let said = format!("bytes {from}-{}/{}", to - 1, body.len());
    lines.push(("Content-Range", &said));
    Reply::answer(206, &lines, &body.as_bytes()[from..to])
}

/// One request, and what its answer must be.
struct Ask {
    method: &'static str,
    path: String,
    lines: Lines,
    name: String,
}

impl Ask {
    fn by_chance(dice: u64) -> Self {
        let (person, url) = ((dice >> 8) as usize % PEOPLE, (dice >> 32) as usize % URLS);
        let path = path(url);
        let mut lines = credentials(person, &path);
        let name = name_of(&lines, &path);
        let own = tag(&body(&name, &path));
        let other = name_of(&credentials((person + 3) % PEOPLE, &path), &path);
        let mut method = "GET";
        match dice % 10 {
            0 => method = "HEAD",
            1 => lines.push(("range", "bytes=0-59".into())),
            2 => lines.push(("range", "bytes=5-".into())),
            3 => lines.push(("if-none-match", own)),
            4 => lines.push(("if-none-match", tag(&body(&other, &path)))),
            _ => {}
        }
        Ask {
            method,
            path,
            lines,
            name,
        }
    }

    fn borrowed(&self) -> Vec<(&str, &str)> {
        self.lines.iter().map(|(n, v)| (*n, v.as_str())).collect()
    }

    fn line(&self, name: &str) -> Option<&str> {
        let found = self.lines.iter().find(|(n, _)| *n == name);
        found.map(|(_, v)| v.as_str())
    }

    fn judge(&self, answer: &Answer) {
        let whole = body(&self.name, &self.path);
        let expected = match answer.status {
            200 if self.method == "HEAD" => "",
            200 => whole.as_str(),
            206 => {
                let (from, to) = slice(self.line("range").expect("a range"), &whole);
                &whole[from..to]
            }
            304 => {
                assert_eq!(self.line("if-none-match"), Some(tag(&whole).as_str()));
                ""
            }
            other => panic!("{other} for {} {}", self.method, self.path),
        };
        let told = format!("{} {} {:?}", self.method, self.path, self.lines);
        assert_eq!(answer.text(), expected, "{told} {:?}", answer.headers);
        assert!(answer.complete, "{told}");
        match answer.header("x-who") {
            Some(who) => assert_eq!(who, self.name, "{told} {:?}", answer.headers),
            None => assert_eq!(answer.status, 304, "{told}"),
        }
    }
}

/// The next batch over this connection.
fn play(client: &mut Either, asks: &[Ask]) -> Vec<Answer> {
    match client {
        Either::One(client) => {
            for ask in asks {
                client.begin(ask.method, &ask.path, &ask.borrowed(), b"");
            }
            asks.iter()
                .map(|ask| client.answer_to(ask.method))
                .collect()
        }
        Either::Two(client) => {
            let streams: Vec<_> = asks
                .iter()
                .map(|ask| client.begin(ask.method, &ask.path, &ask.borrowed(), true))
                .collect();
            streams.into_iter().map(|s| client.answer(s)).collect()
        }
    }
}

enum Either {
    One(Client),
    Two(Client2),
}

#[test]
fn s3_100000_requests_of_50_people_for_100_urls_reach_not_one_wrong_person() {
    let origin = Origin::new(echo);
    let mut yaml = format!(
        "defaults: {{ upstream: pool, retry: {{ tries: 1 }} }}\nupstreams:\n  pool: {{ backends: [127.0.0.1:{}] }}\nroutes:\n",
        origin.port
    );
    for (name, _, rules, _) in KINDS {
        yaml.push_str(&format!(
            "  - {{ match: {{ path: /{name} }}, cache: {{ {rules} }} }}\n"
        ));
    }
    let quiet = Proxy::with().http2().key("access_log", "{ path: off }");
    let proxy = quiet.start(&yaml);
    // How often each status came, from the cache or not.
    let seen = Mutex::new(BTreeMap::<(u16, bool), usize>::new());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (seen, port) = (&seen, proxy.port);
            scope.spawn(move || {
                let connect = || match number < BY_HTTP2 {
                    true => Either::Two(Client2::to(port)),
                    false => Either::One(Client::to(port)),
                };
                let mut client = connect();
                // Xorshift: the same people and URLs in every run.
                let mut dice = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mut own = BTreeMap::<(u16, bool), usize>::new();
                for batch in 0..REQUESTS / THREADS / BATCH {
                    if batch % BATCHES == number {
                        client = connect();
                    }
                    let asks = (0..BATCH).map(|_| {
                        dice ^= dice << 13;
                        dice ^= dice >> 7;
                        dice ^= dice << 17;
                        Ask::by_chance(dice)
                    });
                    let asks: Vec<Ask> = asks.collect();
                    for (ask, answer) in asks.iter().zip(play(&mut client, &asks)) {
                        ask.judge(&answer);
                        let hit = crate::cache::is_hit(&answer);
                        *own.entry((answer.status, hit)).or_default() += 1;
                    }
                }
                let mut seen = seen.lock().unwrap();
                for (what, count) in own {
                    *seen.entry(what).or_default() += count;
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.values().sum::<usize>(), REQUESTS, "{seen:?}");
    // Everything came about, and often.
    for status in [200, 206, 304] {
        for hit in [false, true] {
            let count = seen.get(&(status, hit)).copied().unwrap_or(0);
            assert!(count > 100, "{status} {hit}: {seen:?}");
        }
    }
    eprintln!("{seen:?}, {} at the origin", origin.count());
}
