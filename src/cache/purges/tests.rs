//! Rules, the list of them in a file, and what they hold back.

use super::super::head::Head;
use super::super::key::Key;
use super::super::object::Body;
use super::*;
use crate::policy::cache::freshness::{Freshness, Times};
use http::StatusCode;
use pingora::http::ResponseHeader;
use std::time::Duration;

fn object(place: &str, tags: &str, born: Moment) -> Object {
    let mut head = ResponseHeader::build(200, None).unwrap();
    head.insert_header("Cache-Tag", tags).unwrap();
    let times = Times {
        requested: Duration::ZERO,
        received: Duration::ZERO,
    };
    let freshness = Freshness::of(true, StatusCode::OK, &head.headers, times, &|_| None);
    let key = Key {
        url: [place.len() as u8; 16],
        who: [0; 16],
    };
    let body = Body::Memory(bytes::Bytes::new());
    Object::new(
        key,
        place,
        None,
        Head::of(&head).unwrap(),
        freshness,
        body,
        born,
    )
}

fn tag(name: &str) -> What {
    What::Tag(name.into())
}

fn rules(purges: &Purges) -> Vec<(What, Moment)> {
    let rules = purges.rules.load_full();
    rules.iter().map(|(what, at)| (what.clone(), at)).collect()
}

#[test]
fn a_rule_is_of_what_was_asked_for_before_it_and_fits() {
    let purges = Purges::default();
    let before = purges.clock().now();
    let o = |place: &str, tags: &str| object(place, tags, before);
    for (what, fits, others) in [
        (tag("b c"), o("http://h/", "a, b c"), o("http://h/", "b, c")),
        (
            What::Prefix("http://h/a".into()),
            o("http://h/ab", ""),
            o("http://h/b", ""),
        ),
        (What::Url([10; 16]), o("http://h/1", ""), o("http://h/", "")),
        (
            What::All,
            o("http://h/", ""),
            object("http://h/", "", Moment(u64::MAX - 9)),
        ),
    ] {
        let purges = Purges::default();
        assert!(!purges.hit(&fits));
        purges.add(what);
        assert!(purges.hit(&fits) && purges.bars(&fits, purges.clock().now()));
        if others.born == before {
            assert!(!purges.hit(&others));
        }
        let mut later = fits;
        later.born = purges.clock().now();
        assert!(!purges.hit(&later));
        // Nobody knows when a moment that is still to come was noted.
        later.born = later.born.plus(Duration::from_secs(3600));
        assert!(purges.hit(&later));
    }
}

#[test]
fn the_latest_of_several_counts() {
    let purges = Purges::default();
    purges.add(tag("a"));
    let between = object("http://h/", "a", purges.clock().now());
    assert!(!purges.hit(&between));
    purges.add(tag("b"));
    purges.add(What::Prefix("http://g".into()));
    assert!(!purges.hit(&between));
    purges.add(tag("a"));
    assert!(purges.hit(&between));
    assert_eq!(rules(&purges).len(), 3);
}

#[test]
fn a_url_is_changed_from_the_beginning_of_its_purge_to_those_who_began_before_its_end() {
    let purges = Purges::default();
    let url = [7; 16];
    let early = purges.clock().now();
    assert!(!purges.url_changed(&url, early));
    let going = purges.begin_url(&url);
    let during = purges.clock().now();
    assert!(purges.url_changed(&url, during));
    drop(going);
    assert!(purges.url_changed(&url, early) && purges.url_changed(&url, during));
    assert!(!purges.url_changed(&url, purges.clock().now()));
    assert!(!purges.url_changed(&[8; 16], early), "another URL");
    assert!(!purges.any_since(&[8; 16], early));
    purges.add(tag("x"));
    purges.settled();
    assert!(purges.any_since(&[8; 16], early));
    assert!(!purges.any_since(&[8; 16], purges.clock().now()));
}

#[test]
fn rules_outlive_the_process_until_they_are_done() {
    let directory = tempfile::tempdir().unwrap();
    let purges = Purges::in_directory(directory.path());
    for what in [
        tag("a b c"),
        What::Prefix("http://h/x".into()),
        What::Url([0xab; 16]),
        What::All,
    ] {
        purges.add(what);
        purges.save().unwrap();
    }
    let next = Purges::in_directory(directory.path());
    assert_eq!(rules(&next), rules(&purges));
    assert!(!next.is_swept());
    // Later than all of them, whatever the system's clock says.
    assert!(next.clock().now() > rules(&next)[3].1);
    let now = next.clock().now();
    assert!(!next.swept(now), "too early");
    assert!(next.is_swept());
    // As if time had passed.
    next.clock.pass(now.plus(KEPT));
    let long_ago = object("http://h/", "", rules(&next)[1].1);
    assert!(next.swept(Moment(0)));
    assert_eq!(rules(&next), []);
    assert!(!next.hit(&long_ago));
    // Whoever began before what is forgotten now keeps it to themselves.
    assert!(next.bars(&long_ago, long_ago.born));
    assert!(!next.bars(&long_ago, next.clock().now()));
    next.save().unwrap();
    assert_eq!(rules(&Purges::in_directory(directory.path())), []);
}

#[test]
fn two_processes_keep_each_others_rules() {
    let directory = tempfile::tempdir().unwrap();
    let one = Purges::in_directory(directory.path());
    let other = Purges::in_directory(directory.path());
    assert!(!one.adopt());
    one.add(tag("a"));
    one.save().unwrap();
    other.add(tag("b"));
    other.save().unwrap();
    assert_eq!(rules(&other).len(), 2);
    assert!(one.adopt() && !one.adopt());
    let names = |purges: &Purges| rules(purges).into_iter().map(|r| r.0).collect::<Vec<_>>();
    assert_eq!(names(&one), [tag("a"), tag("b")]);
    assert_eq!(names(&Purges::in_directory(directory.path())), names(&one));
    // One is done with them: they do not come back from the other's list, nor go from it before its time.
    let now = one.clock().now();
    one.swept(now);
    one.clock.pass(now.plus(KEPT));
    assert!(one.swept(Moment(0)));
    one.save().unwrap();
    assert_eq!(names(&one), []);
    other.add(tag("c"));
    other.save().unwrap();
    assert_eq!(names(&other).len(), 3);
}

#[test]
fn many_threads_save_what_they_added() {
    let directory = tempfile::tempdir().unwrap();
    let purges = Purges::in_directory(directory.path());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (purges, directory) = (&purges, directory.path());
            scope.spawn(move || {
                for n in 0..20 {
                    let what = tag(&format!("{thread}-{n}"));
                    purges.add(what.clone());
                    purges.save().unwrap();
                    let next = Purges::in_directory(directory);
                    assert!(rules(&next).iter().any(|rule| rule.0 == what));
                }
            });
        }
    });
    assert_eq!(rules(&Purges::in_directory(directory.path())).len(), 160);
}

#[test]
fn of_too_many_rules_the_oldest_become_one_for_everything() {
    let purges = Purges::default();
    let oldest = object("http://h/", "", purges.clock().now());
    for n in 0..rules::MOST {
        purges.add(tag(&n.to_string()));
    }
    assert!(!purges.hit(&oldest));
    let between = object("http://h/", "", purges.clock().now());
    purges.add(tag("one more"));
    assert!(purges.hit(&oldest) && !purges.hit(&between));
    for n in 0..10_000 {
        purges.add(tag(&n.to_string()));
        assert!(rules(&purges).len() <= rules::MOST);
    }
    assert!(purges.hit(&between));
    // Those that only wait for what is on its way go first, and take nothing with them.
    let purges = Purges::default();
    let oldest = object("http://h/", "", purges.clock().now());
    for n in 0..5000 {
        purges.add(tag(&n.to_string()));
        purges.swept(purges.clock().now());
    }
    assert!(rules(&purges).len() <= rules::MOST && !purges.hit(&oldest));
    assert!(purges.bars(&oldest, oldest.born));
}

#[test]
fn a_list_that_cannot_be_read_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    for text in [
        "",
        "x",
        "1",
        "1 tag",
        "x tag y\n",
        "1 url zz\n",
        "1 other x\n",
    ] {
        std::fs::write(directory.path().join("purges"), text).unwrap();
        let purges = Purges::in_directory(directory.path());
        assert_eq!(rules(&purges), [], "{text:?}");
    }
}
