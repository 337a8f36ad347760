//! Purging: by URL, prefix, tag and all; from memory and from files, across a crash, and what is on its way.

use crate::admin::{figures, post, with_admin};
use crate::cache::{counting, hit, is_hit, rules, told};
use crate::cache_disk::objects;
use crate::client::{Answer, Client, request};
use crate::command::run;
use crate::harness::{PATIENCE, Proxy, Setup, until};
use crate::origin::Origin;
use crate::reply::{Gate, Reply, Step};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;

/// A process with an admin address, and a store in this directory, if there is one.
fn setup(directory: Option<&Path>) -> (Setup, u16) {
    let (setup, admin) = with_admin();
    let setup = match directory {
        Some(path) => setup.key("cache", &stored_in(path)),
        None => setup,
    };
    (setup, admin)
}

fn stored_in(path: &Path) -> String {
    format!(
        "{{ memory: 32MiB, path: \"{}\", max_size: 16MiB, min_free: 0B }}",
        path.display()
    )
}

/// Once without files and once with.
fn both(test: impl Fn(Option<&Path>)) {
    test(None);
    let directory = TempDir::new().expect("a directory");
    test(Some(&directory.path().join("cache")));
}

/// How many answers a purge took.
#[track_caller]
fn purge(admin: u16, body: &str) -> u64 {
    let answer = post(admin, body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    body["purged"].as_u64().expect("a number")
}

fn ask(proxy: &Proxy, path: &str, headers: &[(&str, &str)]) -> Answer {
    let answer = request(proxy.port, "GET", path, headers, b"");
    assert_eq!(answer.status, 200);
    answer
}

/// Waits until every answer is in a file.
fn until_written(admin: u16, files: u64) {
    until("the files", || figures(admin)["disk"]["objects"] == files);
}

#[track_caller]
fn asked_again(answer: &Answer) {
    assert!(!is_hit(answer), "{}", told(answer));
}

#[test]
fn a_url_goes_with_all_its_variants_for_all_people_and_nothing_else() {
    both(|directory| {
        let origin = counting(&[("Vary", "Accept-Language")]);
        let (setup, admin) = setup(directory);
        let proxy = setup.start(&rules(&origin, "ttl: 1h, per: [{ header: X-Tenant }]"));
        let ann = ("Authorization", "Bearer ann");
        let german = ("Accept-Language", "de");
        let kinds: [&[(&str, &str)]; 5] = [
            &[],
            &[german],
            &[ann],
            &[ann, german],
            &[("X-Tenant", "acme"), ("Cookie", "a=b")],
        ];
        let mut others: Vec<(&str, &[(&str, &str)])> = vec![
            ("/a?q=2", &[]),
            ("/a", &[("Host", "example.com:80")]),
            ("/a", &[("Host", "www.example.com")]),
            ("/A?q=1", &[]),
            ("/a/?q=1", &[]),
        ];
        others.push(("/a?q=1&x", kinds[2]));
        for _ in 0..2 {
            kinds.iter().for_each(|k| drop(ask(&proxy, "/a?q=1", k)));
            others
                .iter()
                .for_each(|(path, of)| drop(ask(&proxy, path, of)));
        }
        assert_eq!(origin.count(), 11);
        if directory.is_some() {
            until_written(admin, 11);
        }
        assert_eq!(purge(admin, r#"{"url": "https://example.com/a?q=1"}"#), 0);
        assert_eq!(purge(admin, r#"{"url": "HTTP://Example.COM/a?q=1"}"#), 5);
        assert_eq!(purge(admin, r#"{"url": "http://example.com/a?q=1"}"#), 0);
        kinds
            .iter()
            .for_each(|k| asked_again(&ask(&proxy, "/a?q=1", k)));
        others
            .iter()
            .for_each(|(path, of)| hit(&ask(&proxy, path, of)));
        assert_eq!(origin.count(), 16);
        // A port is part of it as clients write it.
        assert_eq!(purge(admin, r#"{"url": "http://example.com:80/a"}"#), 1);
        asked_again(&ask(&proxy, "/a", &[("Host", "EXAMPLE.com:80")]));
    });
}

#[test]
fn a_prefix_takes_what_begins_with_it() {
    both(|directory| {
        let origin = counting(&[]);
        let (setup, admin) = setup(directory);
        let proxy = setup.start(&rules(&origin, "ttl: 1h"));
        let ann: &[(&str, &str)] = &[("Authorization", "Bearer ann")];
        let below: [(&str, &[(&str, &str)]); 4] =
            [("/a/", &[]), ("/a/b", &[]), ("/a/b?q", &[]), ("/a/b", ann)];
        let others: [(&str, &[(&str, &str)]); 4] = [
            ("/a", &[]),
            ("/b/a/", &[]),
            ("/a/b", &[("Host", "example.com.evil")]),
            ("/a/b", &[("Host", "example.com:81")]),
        ];
        for (path, of) in below.iter().chain(&others) {
            ask(&proxy, path, of);
            hit(&ask(&proxy, path, of));
        }
        if directory.is_some() {
            until_written(admin, 8);
        }
        assert_eq!(purge(admin, r#"{"prefix": "http://EXAMPLE.com/a/"}"#), 4);
        below
            .iter()
            .for_each(|(path, of)| asked_again(&ask(&proxy, path, of)));
        others
            .iter()
            .for_each(|(path, of)| hit(&ask(&proxy, path, of)));
        // A host alone is all of it, and no other that begins so.
        assert_eq!(purge(admin, r#"{"prefix": "http://example.com"}"#), 6);
        hit(&ask(&proxy, others[2].0, others[2].1));
        hit(&ask(&proxy, others[3].0, others[3].1));
        asked_again(&ask(&proxy, "/a", &[]));
    });
}

#[test]
fn a_tag_takes_what_the_origin_gave_it() {
    both(|directory| {
        let origin = Origin::new(|r| {
            let tags: &[(&str, &str)] = match r.target.as_str() {
                "/comma" => &[("Cache-Tag", "x, two words ,y")],
                "/space" => &[("Surrogate-Key", "y x z")],
                "/lines" => &[("Cache-Tag", "a"), ("Cache-Tag", "x")],
                "/other" => &[("Cache-Tag", "X, xy, x y"), ("Surrogate-Key", "xx")],
                _ => &[],
            };
            Reply::answer(200, tags, b"tagged")
        });
        let (setup, admin) = setup(directory);
        let proxy = setup.start(&rules(&origin, "ttl: 1h"));
        let all = ["/comma", "/space", "/lines", "/other", "/none"];
        let fill = || {
            for path in all {
                ask(&proxy, path, &[]);
                hit(&ask(&proxy, path, &[]));
            }
            if directory.is_some() {
                until_written(admin, 5);
            }
        };
        for (tag, gone) in [
            ("x", &["/comma", "/space", "/lines"][..]),
            ("two words", &["/comma"]),
            ("y", &["/comma", "/space"]),
            ("x y", &["/other"]),
            ("nobody's", &[]),
        ] {
            fill();
            assert_eq!(
                purge(admin, &format!("{{\"tag\": \"{tag}\"}}")),
                gone.len() as u64
            );
            for path in all {
                assert_eq!(
                    is_hit(&ask(&proxy, path, &[])),
                    !gone.contains(&path),
                    "{tag}: {path}"
                );
            }
        }
    });
}

#[test]
fn all_is_all() {
    both(|directory| {
        let origin = counting(&[]);
        let (setup, admin) = setup(directory);
        let proxy = setup.start(&rules(&origin, "ttl: 1h"));
        for round in 0..3 {
            for n in 0..20 {
                let path = format!("/{n}");
                asked_again(&ask(&proxy, &path, &[]));
                hit(&ask(&proxy, &path, &[]));
            }
            assert_eq!(origin.count(), 20 * (round + 1));
            assert_eq!(purge(admin, r#"{"all": true}"#), 20);
            // The last fills may still be putting theirs away when the client has it.
            until("an empty memory", || {
                let memory = &figures(admin)["memory"];
                (&memory["objects"], &memory["bytes"]) == (&0.into(), &0.into())
            });
        }
    });
}

#[test]
fn a_crash_right_after_a_purge_brings_nothing_back() {
    for body in [
        r#"{"url": "http://example.com/gone/0"}"#,
        r#"{"prefix": "http://example.com/gone/"}"#,
        r#"{"tag": "gone"}"#,
        r#"{"all": true}"#,
    ] {
        let origin = Origin::new(|r| {
            let tag = match r.target.starts_with("/gone/") {
                true => "gone",
                false => "kept",
            };
            Reply::answer(200, &[("Cache-Tag", tag)], r.number.to_string().as_bytes())
        });
        let directory = TempDir::new().expect("a directory");
        let (first, admin) = setup(Some(directory.path()));
        let mut proxy = first.start(&rules(&origin, "ttl: 1h"));
        let gone: Vec<String> = (0..300).map(|n| format!("/gone/{n}")).collect();
        let gone = if body.contains("url") {
            &gone[..1]
        } else {
            &gone[..]
        };
        let mut client = Client::to(proxy.port);
        for path in gone {
            client.get(path);
        }
        client.get("/kept");
        until_written(admin, gone.len() as u64 + 1);
        purge(admin, body);
        proxy.signal(Signal::KILL);
        proxy.wait_exit(PATIENCE);
        let killed = SystemTime::now();
        let (second, admin) = setup(Some(directory.path()));
        let mut proxy = second.start(&rules(&origin, "ttl: 1h"));
        let mut client = Client::to(proxy.port);
        for path in gone {
            let answer = client.get(path);
            assert!(!is_hit(&answer), "{body}: {path} came back");
        }
        assert_eq!(
            is_hit(&client.get("/kept")),
            !body.contains("all"),
            "{body}"
        );
        // What was stored since stays.
        until_written(admin, gone.len() as u64 + 1);
        let is_new = |file: &PathBuf| {
            let written = file.metadata().and_then(|meta| meta.modified());
            written.is_ok_and(|written| written > killed)
        };
        until("the new files", || {
            let all = objects(directory.path());
            all.iter().filter(|file| is_new(file)).count() >= gone.len()
        });
        proxy.signal(Signal::KILL);
        proxy.wait_exit(PATIENCE);
        let (third, _) = setup(Some(directory.path()));
        let proxy = third.start(&rules(&origin, "ttl: 1h"));
        let mut client = Client::to(proxy.port);
        for path in gone {
            let answer = client.get(path);
            assert!(is_hit(&answer), "{body}: {path} is gone: {}", told(&answer));
        }
    }
}

const PURGES: [&str; 4] = [
    r#"{"url": "http://example.com/slow"}"#,
    r#"{"prefix": "http://example.com/sl"}"#,
    r#"{"tag": "slow"}"#,
    r#"{"all": true}"#,
];

/// What is asked of the origin before a purge is for those who asked before it. `size`: of the answer; `sent`: how much of
/// it comes before the purge, its head included.
fn purged_on_its_way(directory: Option<&Path>, size: usize, sent: usize) {
    for body in PURGES {
        let gate = Gate::default();
        let open = gate.clone();
        let origin = Origin::new(move |r| {
            let text = if r.number == 0 { "old" } else { "new" };
            let tags = [("Cache-Tag", "slow")];
            let whole = Reply::answer(200, &tags, text.repeat(size / 3).as_bytes());
            if r.number > 0 {
                return whole;
            }
            let bytes: Vec<u8> = whole.0.into_iter().fold(Vec::new(), |mut all, step| {
                if let Step::Send(more) | Step::Body(more) = step {
                    all.extend(more);
                }
                all
            });
            let sent = sent.min(bytes.len());
            Reply::raw(&bytes[..sent]).then(Reply::raw(&bytes[sent..]).when(&open))
        });
        let (first, admin) = setup(directory);
        let mut proxy = first.start(&rules(&origin, "ttl: 1h, max_object: 4MiB"));
        let mut early = Client::to(proxy.port);
        early.begin("GET", "/slow", &[], b"");
        origin.request(0);
        if sent > 0 {
            assert_eq!(early.head().expect("a head").status, 200);
        }
        purge(admin, body);
        let late = ask(&proxy, "/slow", &[]);
        assert!(late.text().starts_with("new"), "{body}: {}", told(&late));
        hit(&ask(&proxy, "/slow", &[]));
        gate.open();
        if sent > 0 {
            assert!(early.read(size / 3 * 3).starts_with(b"old"));
        } else {
            assert!(early.answer().text().starts_with("old"));
        }
        // The end of the old one changes nothing.
        until("the first one's line", || proxy.log_lines().len() >= 3);
        for _ in 0..20 {
            let answer = ask(&proxy, "/slow", &[]);
            hit(&answer);
            assert!(answer.text().starts_with("new"), "{body}");
        }
        if directory.is_some() {
            until_written(admin, 1);
            proxy.signal(Signal::KILL);
            proxy.wait_exit(PATIENCE);
            let (second, admin) = setup(directory);
            let proxy = second.start(&rules(&origin, "ttl: 1h, max_object: 4MiB"));
            let answer = ask(&proxy, "/slow", &[]);
            assert!(answer.text().starts_with("new"), "{body} after a crash");
            purge(admin, r#"{"all": true}"#);
        }
    }
}

#[test]
fn what_was_asked_for_before_a_purge_is_not_given_to_those_who_come_after() {
    both(|directory| purged_on_its_way(directory, 9_000, 0));
}

#[test]
fn nor_what_is_coming_already() {
    // More than is gathered before the first of it leaves.
    both(|directory| purged_on_its_way(directory, 60_000, 30_000));
}

#[test]
fn nor_what_is_being_written_to_a_file_already() {
    let directory = TempDir::new().expect("a directory");
    purged_on_its_way(Some(directory.path()), 3_000_000, 1_500_000);
}

#[test]
fn nor_a_part_on_its_way() {
    for body in PURGES {
        let gate = Gate::default();
        let open = gate.clone();
        let origin = Origin::new(move |r| {
            let old = r.number == 0;
            let headers = [
                ("ETag", "\"same\""),
                ("Cache-Tag", "slow"),
                ("Content-Range", "bytes 0-5/100"),
            ];
            let text = if old { b"oldold" } else { b"newnew" };
            let reply = Reply::answer(206, &headers, text);
            let Some((Step::Send(head), Step::Body(rest))) = reply.0.first().zip(reply.0.last())
            else {
                panic!("a head and a body")
            };
            let first = Reply::raw(head).then(Reply::raw(&rest[..3]));
            match old {
                true => first.then(Reply::raw(&rest[3..]).when(&open)),
                false => first.then(Reply::raw(&rest[3..])),
            }
        });
        let (setup, admin) = setup(None);
        let proxy = setup.start(&rules(&origin, "ttl: 1h"));
        let part = [("Range", "bytes=0-5")];
        let mut early = Client::to(proxy.port);
        early.begin("GET", "/slow", &part, b"");
        assert_eq!(early.head().expect("a head").status, 206);
        purge(admin, body);
        gate.open();
        assert_eq!(early.read(6), b"oldold");
        until("its line", || proxy.log_lines().len() == 1);
        for _ in 0..5 {
            let late = request(proxy.port, "GET", "/slow", &part, b"");
            assert_eq!(late.text(), "newnew", "{body}: {}", told(&late));
        }
    }
}

#[test]
fn the_command_purges_and_shows_what_is_there() {
    let origin = counting(&[("Cache-Tag", "numbers")]);
    let directory = TempDir::new().expect("a directory");
    let (setup, admin) = setup(Some(directory.path()));
    let proxy = setup.start(&rules(&origin, "ttl: 1h"));
    let command = |args: &[&str]| {
        let output = run(
            &[&["cache"][..], args, &["-c", "backstop.yaml"]].concat(),
            proxy.dir(),
        );
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let done = |args: &[&str]| {
        let (code, out, err) = command(args);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}");
        out
    };
    let fill = || {
        for path in ["/a", "/a/b", "/b"] {
            ask(&proxy, path, &[]);
        }
        until_written(admin, 3);
    };
    fill();
    let table = done(&["status"]);
    let row = |name: &str| {
        let line = table.lines().find(|l| l.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {table}"));
        line.split_whitespace()
            .skip(1)
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("objects"), ["3", "3"]);
    assert_eq!(row("limit"), ["32.0", "MiB", "16.0", "MiB"]);
    assert_eq!(row("evicted"), ["0", "0"]);
    assert_eq!(row("fills"), ["0"]);
    assert_eq!(
        (row("corrupt"), row("errors")),
        (vec!["0".into()], vec!["0".into()])
    );
    let json: serde_json::Value = serde_json::from_str(&done(&["status", "--json"])).expect("JSON");
    assert_eq!(json["memory"]["objects"], 3);
    assert_eq!(json["memory"]["limit_bytes"], 32 << 20);
    let bytes = json["disk"]["bytes"].as_u64().expect("a number");
    // With the directories.
    assert!((3 * 4096..1 << 20).contains(&bytes), "{json}");
    assert_eq!(json["disk"]["limit_bytes"], 16 << 20);
    assert_eq!(json["disk"]["off"], serde_json::Value::Null);
    for name in ["evicted", "corrupt", "errors", "indexed_percent"] {
        assert!(json["disk"][name].is_u64(), "{name} in {json}");
    }
    assert_eq!(
        done(&["purge", "http://example.com/a"]),
        "purged 1 answer\n"
    );
    asked_again(&ask(&proxy, "/a", &[]));
    for (args, number) in [
        (
            &["purge", "--prefix", "http://example.com/a"][..],
            "purged 2 answers in memory",
        ),
        (&["purge", "--tag", "numbers"], "purged 3 answers in memory"),
        (&["purge", "--all"], "purged 3 answers in memory"),
        (&["purge", "--tag", "none"], "purged 0 answers in memory"),
    ] {
        fill();
        let out = done(args);
        assert!(out.starts_with(number), "{out}");
    }
    for (args, part) in [
        (&["purge", "example.com/a"][..], "http://"),
        (&["purge", "--prefix", "http://example.com/?a"], "query"),
        (&["purge", "--tag", ""], "empty"),
    ] {
        let (code, out, err) = command(args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}");
        assert!(err.contains(part), "{err}");
    }
    proxy.said("purge by prefix: 2 answers");
}
