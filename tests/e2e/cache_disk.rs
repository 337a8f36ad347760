//! A cache with a directory: what it keeps over restarts, for whom, and how much.

use crate::cache::{hit, is_hit, rules, told};
use crate::client::{Answer, Client, get, request};
use crate::harness::{Proxy, Setup, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Request};
use rustix::process::Signal;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Kept for long, whatever its size.
pub(crate) const KEPT: &str = "ttl: 1h, max_object: 64MiB";

/// A proxy that keeps a little in memory and more in this directory.
pub(crate) fn on_disk(dir: &Path) -> Setup {
    with_sizes(dir, "1MiB", "64MiB")
}

/// The same with other sizes.
pub(crate) fn with_sizes(dir: &Path, memory: &str, max_size: &str) -> Setup {
    let path = dir.display();
    let cache =
        format!("{{ memory: {memory}, path: {path}, max_size: {max_size}, min_free: 1MiB }}");
    Proxy::with().key("cache", &cache)
}

/// The body of a URL: its bytes follow from the URL and no two URLs share a stretch of them.
pub(crate) fn body_of(target: &str, len: usize) -> Vec<u8> {
    let mut word = target.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    let mut body = Vec::with_capacity(len + 8);
    while body.len() < len {
        // Xorshift.
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        body.extend(word.to_le_bytes());
    }
    body.truncate(len);
    body
}

/// How long the body of `/KIND/LENGTH/NAME` is.
fn length_of(target: &str) -> usize {
    let length = target.split('/').nth(2).and_then(|l| l.parse().ok());
    length.unwrap_or_else(|| panic!("no length in {target}"))
}

/// The body that belongs to such a target.
pub(crate) fn expected(target: &str) -> Vec<u8> {
    body_of(target, length_of(target))
}

/// Answers `/length/…` with a length, `/chunked/…` without one.
pub(crate) fn answer_to(target: &str) -> Reply {
    let body = expected(target);
    if !target.starts_with("/chunked/") {
        return Reply::answer(200, &[("ETag", "\"1\"")], &body);
    }
    // Of different sizes, so that they end anywhere in the store's blocks.
    let (mut chunks, mut rest, mut size) = (Vec::new(), body.as_slice(), 1);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(size));
        chunks.push(chunk);
        rest = after;
        size = (size * 7 + 13) % 30_011;
    }
    Reply::chunked(200, &[("ETag", "\"1\"")], &chunks)
}

/// A backend of such answers.
pub(crate) fn bodies() -> Origin {
    Origin::new(|r| answer_to(&r.target))
}

/// Asserts on every byte.
#[track_caller]
pub(crate) fn whole(answer: &Answer, target: &str) {
    let expected = expected(target);
    assert_eq!(answer.status, 200, "{target}");
    assert!(answer.complete, "{target} broke off");
    if answer.body != expected {
        let same = answer.body.iter().zip(&expected);
        let at = same.take_while(|(a, b)| a == b).count();
        let lengths = (answer.body.len(), expected.len());
        panic!(
            "{target} differs from byte {at} on, {lengths:?}, {}",
            told(answer)
        );
    }
}

/// All files below a directory. What goes while it is looked at is left out.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    for entry in entries.filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all.extend(files(&entry.path())),
            Ok(_) => all.push(entry.path()),
            Err(_) => {}
        }
    }
    all
}

/// The files of finished objects.
pub(crate) fn objects(dir: &Path) -> Vec<PathBuf> {
    files(&dir.join("objects"))
}

/// Waits until there are so many of them.
pub(crate) fn until_written(dir: &Path, count: usize) {
    until("the files", || objects(dir).len() == count);
}

/// What all files take, those being written included.
pub(crate) fn taken(dir: &Path) -> u64 {
    let sizes = files(dir)
        .into_iter()
        .filter_map(|f| f.symlink_metadata().ok());
    sizes.map(|m| m.blocks() * 512).sum()
}

/// Ends a process as a crash does.
pub(crate) fn kill(mut proxy: Proxy) {
    proxy.signal(Signal::KILL);
    proxy.wait_exit(Duration::from_secs(5));
}

/// Ends a process in order.
pub(crate) fn terminate(mut proxy: Proxy) {
    proxy.signal(Signal::TERM);
    let (status, _) = proxy.wait_exit(Duration::from_secs(10));
    assert!(status.success(), "{status}");
}

const SIZES: [usize; 12] = [
    0, 1, 1_000, 15_000, 65_535, 65_536, 100_000, 524_288, 540_672, 1_000_000, 1_048_577, 3_000_000,
];

/// What is asked for in the tests of restarts: path, header, and what the answer is to be.
fn questions() -> Vec<(String, (&'static str, String))> {
    let plain = || ("X-Nothing", String::new());
    let mut all = Vec::new();
    for kind in ["length", "chunked"] {
        for size in SIZES {
            all.push((format!("/{kind}/{size}/x"), plain()));
        }
    }
    for language in ["de", "fr", "en"] {
        let header = ("Accept-Language", language.to_string());
        all.push(("/vary/5000/x".to_string(), header));
    }
    for n in 0..3 {
        all.push((
            "/person/700/x".to_string(),
            ("Authorization", format!("Bearer {n}")),
        ));
        all.push((
            "/person/70000/x".to_string(),
            ("Cookie", format!("session={n}")),
        ));
    }
    all.push(("/status/204/x".to_string(), plain()));
    all.push(("/status/301/x".to_string(), plain()));
    all
}

fn answered(r: &Request) -> Reply {
    let who = ["authorization", "cookie", "accept-language"].map(|name| r.all(name).concat());
    let mine = format!("{} {who:?}", r.target);
    match r.target.split('/').nth(1) {
        Some("vary") => {
            let headers = [("Vary", "Accept-Language"), ("ETag", "\"1\"")];
            Reply::answer(200, &headers, &body_of(&mine, length_of(&r.target)))
        }
        Some("person") => Reply::ok(body_of(&mine, length_of(&r.target))),
        Some("status") if r.target.contains("204") => {
            Reply::raw("HTTP/1.1 204 No Content\r\nX-Is: kept\r\nX-Is: twice\r\n\r\n")
        }
        Some("status") => Reply::answer(301, &[("Location", "/elsewhere")], b"over there"),
        _ => answer_to(&r.target),
    }
}

#[test]
fn what_is_stored_is_there_after_a_restart_and_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::new(answered);
    let yaml = rules(&origin, KEPT);
    let questions = questions();
    let ask = |proxy: &Proxy| -> Vec<Answer> {
        let ask = |(path, header): &(String, (&str, String))| {
            request(proxy.port, "GET", path, &[(header.0, &header.1)], b"")
        };
        questions.iter().map(ask).collect()
    };
    let proxy = on_disk(dir.path()).start(&yaml);
    let first = ask(&proxy);
    for (answer, (path, _)) in first.iter().zip(&questions) {
        assert!(told(answer).ends_with("; stored"), "{}", told(answer));
        if path.starts_with("/length") || path.starts_with("/chunked") {
            whole(answer, path);
        }
    }
    until_written(dir.path(), questions.len());
    let asked = origin.count();
    assert_eq!(asked, questions.len());
    let check = |proxy: &Proxy, when: &str| {
        for ((answer, first), (path, _)) in ask(proxy).iter().zip(&first).zip(&questions) {
            assert!(is_hit(answer), "{path} {when}: {}", told(answer));
            hit(answer);
            assert_eq!(answer.status, first.status, "{path} {when}");
            assert!(answer.body == first.body, "{path} {when}");
            for name in ["location", "x-is", "etag", "vary"] {
                assert_eq!(answer.all(name), first.all(name), "{path} {when}");
            }
        }
        assert_eq!(origin.count(), asked, "{when}");
    };
    check(&proxy, "in the same process");
    terminate(proxy);
    let proxy = on_disk(dir.path()).start(&yaml);
    check(&proxy, "after a restart");
    kill(proxy);
    let proxy = on_disk(dir.path()).start(&yaml);
    check(&proxy, "after a crash");
    assert_eq!(proxy.count_said("cache on disk"), 0, "{}", proxy.stderr());
}

#[test]
fn what_was_answered_before_an_orderly_end_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let yaml = rules(&origin, KEPT);
    for n in 0..3 {
        let proxy = on_disk(dir.path()).start(&yaml);
        let paths = [400, 200_000, 3_000_000].map(|len| format!("/length/{len}/{n}"));
        for path in &paths {
            whole(&get(proxy.port, path), path);
        }
        terminate(proxy);
        let asked = origin.count();
        let proxy = on_disk(dir.path()).start(&yaml);
        for path in &paths {
            let answer = get(proxy.port, path);
            whole(&answer, path);
            assert!(is_hit(&answer), "{path}: {}", told(&answer));
        }
        assert_eq!(origin.count(), asked);
    }
}

#[test]
fn a_large_chunked_answer_needs_its_room_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
    let kept = "/length/1000/kept";
    whole(&get(proxy.port, kept), kept);
    until_written(dir.path(), 1);
    let large = "/chunked/30000000/x";
    whole(&get(proxy.port, large), large);
    until_written(dir.path(), 2);
    let answer = get(proxy.port, large);
    hit(&answer);
    whole(&answer, large);
    hit(&get(proxy.port, kept));
}

fn ask_at_once(proxy: &Proxy, clients: usize, path: &str) -> Vec<Client> {
    let mut all: Vec<Client> = (0..clients).map(|_| Client::to(proxy.port)).collect();
    for client in &mut all {
        client.begin("GET", path, &[], b"");
    }
    all
}

#[test]
fn s4_1000_clients_for_one_slow_url_cost_the_origin_one_request_and_none_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let open = gate.clone();
    let path = "/length/20000/slow";
    let origin = Origin::new(move |r| answer_to(&r.target).when(&open));
    let yaml = rules(&origin, KEPT);
    let proxy = on_disk(dir.path()).start(&yaml);
    let clients = ask_at_once(&proxy, 1000, path);
    origin.request(0);
    gate.open();
    for mut client in clients {
        whole(&client.answer(), path);
    }
    assert_eq!(origin.count(), 1);
    until_written(dir.path(), 1);
    kill(proxy);
    let proxy = on_disk(dir.path()).start(&yaml);
    for mut client in ask_at_once(&proxy, 1000, path) {
        let answer = client.answer();
        hit(&answer);
        whole(&answer, path);
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn two_processes_use_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let yaml = rules(&origin, KEPT);
    let old = on_disk(dir.path()).start(&yaml);
    let paths: Vec<String> = (0..30)
        .map(|n| match n % 3 {
            0 => format!("/length/{}/{n}", 300 + n),
            1 => format!("/chunked/{}/{n}", 30_000 * n),
            _ => format!("/length/{}/{n}", 50_000 * n),
        })
        .collect();
    for path in &paths[..15] {
        whole(&get(old.port, path), path);
    }
    until_written(dir.path(), 15);
    let asked = origin.count();
    let new = on_disk(dir.path()).start(&yaml);
    for path in &paths[..15] {
        let answer = get(new.port, path);
        whole(&answer, path);
        hit(&answer);
    }
    assert_eq!(origin.count(), asked);
    // Both fill and give out the same at the same time, also what does not go into their memories.
    thread::scope(|scope| {
        for worker in 0..6 {
            let (paths, port) = (&paths, [old.port, new.port][worker % 2]);
            scope.spawn(move || {
                let mut client = Client::to(port);
                for round in 0..60 {
                    let path = &paths[(worker * 7 + round * 11) % paths.len()];
                    whole(&client.get(path), path);
                }
            });
        }
    });
    terminate(old);
    until_written(dir.path(), paths.len());
    for path in &paths {
        let answer = get(new.port, path);
        whole(&answer, path);
        hit(&answer);
    }
    assert_eq!(new.count_said("cache on disk"), 0, "{}", new.stderr());
}

/// Dice that fall the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most
    }
}

#[test]
fn the_directory_stays_within_its_limit() {
    const LIMIT: u64 = 16 << 20;
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let proxy = with_sizes(dir.path(), "1MiB", "16MiB").start(&rules(&origin, KEPT));
    let done = Gate::default();
    let most = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !done.is_open() {
                most = most.max(taken(dir.path()));
                thread::park_timeout(Duration::from_millis(1));
            }
            most
        });
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let port = proxy.port;
                scope.spawn(move || {
                    let mut dice = Dice(worker + 77);
                    let mut client = Client::to(port);
                    let mut loaded = 0;
                    // Five times the limit between them.
                    while loaded < 5 * LIMIT as usize / 4 {
                        let len = [900, 9_000, 90_000, 400_000, 1_500_000][dice.below(5)];
                        let kind = ["length", "chunked"][dice.below(2)];
                        let path = format!("/{kind}/{}/{}", len + dice.below(900), dice.below(40));
                        whole(&client.get(&path), &path);
                        loaded += len;
                    }
                })
            })
            .collect();
        let failed = workers.into_iter().any(|w| w.join().is_err());
        done.open();
        assert!(!failed);
        watcher.join().unwrap()
    });
    // How much of it is stored depends on how many fills at once there is memory for.
    assert!(most > LIMIT / 8, "{most} is no test");
    assert!(most <= LIMIT + LIMIT / 20, "{most} of {LIMIT}");
    // What was asked for last is there.
    let path = "/length/5000/last";
    whole(&get(proxy.port, path), path);
    hit(&get(proxy.port, path));
}

#[test]
fn s3_no_file_holds_a_token_and_no_restart_mixes_people_up() {
    people_and_urls(20, 20);
}

#[test]
#[ignore = "takes half a minute"]
fn s3_no_file_holds_a_token_of_50_people_with_100_urls() {
    people_and_urls(50, 100);
}

fn people_and_urls(people: usize, urls: usize) {
    let dir = tempfile::tempdir().unwrap();
    let say = |r: &str, token: &str| body_of(&format!("{r} of {token}"), 64 + token.len());
    let origin = Origin::new(move |r| {
        let who = [r.all("authorization"), r.all("cookie")].concat().concat();
        Reply::ok(say(&r.target, &who))
    });
    let yaml = rules(&origin, KEPT);
    let ask = |proxy: &Proxy, must_hit: bool| {
        thread::scope(|scope| {
            for worker in 0..5 {
                let port = proxy.port;
                scope.spawn(move || {
                    let mut client = Client::to(port);
                    for n in (worker..people).step_by(5) {
                        for url in 0..urls {
                            let path = format!("/patients/{url}?token=query-secret-{url}");
                            let header = match n % 2 {
                                0 => ("Authorization", format!("Bearer token-of-{n}")),
                                _ => ("Cookie", format!("session=secret-of-{n}")),
                            };
                            let headers = [(header.0, header.1.as_str())];
                            let answer = client.request("GET", &path, &headers, b"");
                            assert!(answer.body == say(&path, &header.1), "{path} of {n}");
                            assert!(!must_hit || is_hit(&answer), "{}", told(&answer));
                        }
                    }
                });
            }
        });
    };
    let proxy = on_disk(dir.path()).start(&yaml);
    ask(&proxy, false);
    until_written(dir.path(), people * urls);
    assert_eq!(origin.count(), people * urls);
    ask(&proxy, true);
    kill(proxy);
    let proxy = on_disk(dir.path()).start(&yaml);
    ask(&proxy, true);
    assert_eq!(origin.count(), people * urls);
    for file in files(dir.path()) {
        let mut text = std::fs::read(&file).unwrap();
        text.extend(file.to_string_lossy().bytes());
        let text = String::from_utf8_lossy(&text);
        for secret in [
            "token-of",
            "secret-of",
            "query-secret",
            "Bearer",
            "session=",
        ] {
            assert!(!text.contains(secret), "{secret} in {}", file.display());
        }
    }
}

/// Bytes that a process has read, from files, pipes and sockets.
fn bytes_read(proxy: &Proxy) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/io", proxy.pid())).unwrap();
    let read = text.lines().find_map(|l| l.strip_prefix("rchar: "));
    read.unwrap().parse().unwrap()
}

#[test]
fn many_variants_of_one_url_are_not_all_read_for_one_request() {
    const VARIANTS: usize = 200;
    const KEPT_OF_THEM: usize = 64;
    const LEN: usize = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::new(|r| {
        let mine = r.all("x-kind").concat();
        Reply::answer(200, &[("Vary", "X-Kind")], &body_of(&mine, LEN))
    });
    let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
    let mut client = Client::to(proxy.port);
    let mut ask = |n: usize| {
        let kind = n.to_string();
        let answer = client.request("GET", "/", &[("X-Kind", &kind)], b"");
        assert!(answer.body == body_of(&kind, LEN));
        answer
    };
    for n in 0..VARIANTS {
        ask(n);
    }
    // The last used of them stay.
    until("the last file", || {
        let all = objects(dir.path());
        all.len() == KEPT_OF_THEM && {
            let last = body_of(&(VARIANTS - 1).to_string(), LEN);
            let is_last = |file: &PathBuf| {
                let bytes = std::fs::read(file).unwrap_or_default();
                bytes.windows(32).any(|w| w == &last[..32])
            };
            all.iter().any(is_last)
        }
    });
    // None of these is in memory any more.
    let before = bytes_read(&proxy);
    for n in VARIANTS - 60..VARIANTS - 50 {
        hit(&ask(n));
    }
    let each = (bytes_read(&proxy) - before) / 10;
    assert!(each < 2 << 20, "{each} bytes for a body of {LEN}");
}

/// What a process holds in memory.
pub(crate) fn resident(proxy: &Proxy) -> u64 {
    memory_of(proxy, "VmRSS:")
}

/// What the system says of it in this line of the process's status.
pub(crate) fn memory_of(proxy: &Proxy, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap() * 1024
}

#[test]
fn what_was_asked_for_first_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let yaml = rules(&origin, KEPT);
    let path = |n: usize| format!("/length/1000000/{n}");
    let proxy = with_sizes(dir.path(), "1MiB", "16MiB").start(&yaml);
    for n in 0..12 {
        whole(&get(proxy.port, &path(n)), &path(n));
    }
    until_written(dir.path(), 12);
    // The oldest is used again, so that the next one is the oldest.
    hit(&get(proxy.port, &path(0)));
    let later: HashSet<usize> = (12..20).collect();
    for &n in &later {
        whole(&get(proxy.port, &path(n)), &path(n));
    }
    until("the last ones", || objects(dir.path()).len() >= 14);
    hit(&get(proxy.port, &path(0)));
    assert!(!is_hit(&get(proxy.port, &path(1))));
}
