//! The two tiers together: what purges and updates do to what is on its way.

use super::disk::{DiskSettings, Standing};
use super::head::Head;
use super::*;
use crate::policy::cache::freshness::{Freshness, Times};
use bytes::Bytes;
use http::StatusCode;
use http::header;
use pingora::http::ResponseHeader;
use std::path::Path;
use std::time::Instant;

const KEY: Key = Key {
    url: [3; 16],
    who: [4; 16],
};

/// A store whose disk takes nothing new if `min_free` is more than there is.
fn cache(dir: &Path, min_free: u64) -> Cache {
    let settings = DiskSettings {
        path: dir.to_owned(),
        max_size: 1 << 30,
        min_free,
    };
    Cache::new(1 << 20, Some(settings)).unwrap()
}

fn freshness(received: u64) -> Freshness {
    let received = Duration::from_secs(received);
    let times = Times {
        requested: received,
        received,
    };
    Freshness::of(true, StatusCode::OK, &HeaderMap::new(), times, &|_| None)
}

fn head(tag: &str) -> Head {
    let mut head = ResponseHeader::build(200, None).unwrap();
    head.insert_header("ETag", tag).unwrap();
    head.insert_header("Cache-Tag", tag).unwrap();
    Head::of(&head).unwrap()
}

fn answer(cache: Cache, tag: &str, body: &str) -> Object {
    let body = Body::Memory(Bytes::copy_from_slice(body.as_bytes()));
    let born = cache.moment();
    let place = "http://h/a";
    Object::new(KEY, place, None, head(tag), freshness(1), body, born)
}

fn validated(old: &Object, tag: &str) -> Arc<Object> {
    Arc::new(old.refreshed(head(tag), freshness(2)))
}

async fn find(cache: Cache) -> Option<Arc<Object>> {
    let alone = cache.only(&KEY);
    let found = cache.find(&KEY, &HeaderMap::new(), |_| true).await;
    if let Some((alone, _)) = alone {
        assert!(Arc::ptr_eq(&alone, found.object.as_ref().unwrap()));
    }
    found.object
}

fn told(object: &Object) -> (&str, &[u8]) {
    let Body::Memory(body) = &object.body else {
        panic!("not in memory")
    };
    let tag = object.head.values(&header::ETAG).next().unwrap();
    (str::from_utf8(tag).unwrap(), body)
}

/// Puts an answer in and waits for its file.
async fn stored(cache: Cache, tag: &str, body: &str) -> Arc<Object> {
    let object = answer(cache, tag, body);
    cache.insert(object, cache.moment());
    let object = find(cache).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while object.copy.load(Ordering::Acquire) == 0 {
        assert!(Instant::now() < deadline, "no file");
        tokio::task::yield_now().await;
    }
    // The index has it, too.
    while cache.status().disk.unwrap().objects == 0 {
        tokio::task::yield_now().await;
    }
    object
}

#[tokio::test]
async fn a_head_is_never_written_to_the_file_of_another_body() {
    let dir = tempfile::tempdir().unwrap();
    stored(cache(dir.path(), 0), "v0", "body 0").await;
    // Another process, which cannot write its newer answer.
    let full = cache(dir.path(), u64::MAX / 2);
    full.insert(answer(full, "v1", "body 1"), full.moment());
    let newer = find(full).await.unwrap();
    let began = full.moment();
    full.replace(&newer, &validated(&newer, "v1 again"), began)
        .await;
    assert_eq!(
        told(&find(full).await.unwrap()),
        ("v1 again", &b"body 1"[..])
    );
    let next = find(cache(dir.path(), 0)).await.unwrap();
    assert_eq!(told(&next), ("v0", &b"body 0"[..]));
    // And one that has room puts its own there as a whole.
    let roomy = cache(dir.path(), 0);
    let old = find(roomy).await.unwrap();
    let other = cache(dir.path(), 0);
    let kept = stored(other, "v2", "body 2").await;
    let began = roomy.moment();
    roomy
        .replace(&old, &validated(&old, "v0 again"), began)
        .await;
    let next = find(cache(dir.path(), 0)).await.unwrap();
    assert!([("v0 again", &b"body 0"[..]), ("v2", &b"body 2"[..])].contains(&told(&next)));
    drop(kept);
}

#[tokio::test]
async fn a_validated_head_reaches_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let cache_now = cache(dir.path(), 0);
    let object = stored(cache_now, "v1", "body").await;
    let fresh = validated(&object, "v1 again");
    cache_now.replace(&object, &fresh, cache_now.moment()).await;
    let next = cache(dir.path(), 0);
    assert_eq!(told(&find(next).await.unwrap()), ("v1 again", &b"body"[..]));
}

async fn purge(cache: Cache, kind: usize) {
    let what = match kind {
        0 => Purge::Prefix("http://h/".into()),
        1 => Purge::Tag("v1".into()),
        2 => Purge::All,
        _ => {
            let gone = cache.0.remove_urls(vec![KEY.url], true).await;
            return gone.1.unwrap();
        }
    };
    cache.purge(what).await.unwrap();
}

/// Found before a purge, put in place after it, as a validation, a refresh in the background or an answer to HEAD does.
#[tokio::test]
async fn what_was_found_before_a_purge_does_not_come_back_by_validation() {
    for kind in 0..4 {
        for from_disk in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut now = cache(dir.path(), 0);
            let mut object = stored(now, "v1", "body").await;
            if from_disk {
                now = cache(dir.path(), 0);
                object = find(now).await.unwrap();
            }
            let began = now.moment();
            purge(now, kind).await;
            now.replace(&object, &validated(&object, "other"), began)
                .await;
            assert!(find(now).await.is_none(), "{kind} {from_disk}");
            // Not even by who begins only now; it was not found since.
            if kind != 3 {
                let began = now.moment();
                now.replace(&object, &validated(&object, "other"), began)
                    .await;
                assert!(find(now).await.is_none(), "{kind} {from_disk}");
            }
            let next = cache(dir.path(), 0);
            assert!(find(next).await.is_none(), "{kind} {from_disk}");
            let asked = answer(now, "v1", "new");
            now.insert(asked, now.moment());
            assert_eq!(told(&find(now).await.unwrap()), ("v1", &b"new"[..]));
        }
    }
}

#[tokio::test]
async fn what_is_about_to_be_written_when_it_is_purged_is_not() {
    for kind in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let now = cache(dir.path(), 0);
        let began = now.moment();
        now.insert(answer(now, "v1", "body"), began);
        let object = find(now).await.unwrap();
        // Before the writing had its turn, and once more after it.
        purge(now, kind).await;
        now.0.write_small(&object, began).await;
        assert!(find(now).await.is_none());
        let next = cache(dir.path(), 0);
        assert!(find(next).await.is_none(), "{kind}");
        assert_eq!(next.status().disk.unwrap().objects, 0, "{kind}");
    }
}

#[tokio::test]
async fn a_file_that_was_opened_before_a_purge_does_not_go_into_memory_after_it() {
    for kind in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        stored(cache(dir.path(), 0), "v1", "body").await;
        let now = cache(dir.path(), 0);
        let began = now.moment();
        let opened = now.open_all(now.0.disk.as_ref().unwrap(), &KEY, &HeaderMap::new());
        purge(now, kind).await;
        let [object] = &opened[..] else {
            panic!("one object")
        };
        assert!(now.load(object.clone(), began).await.is_none());
        assert_eq!(now.status().memory.objects, 0);
    }
}

/// Writes elsewhere: no reason to ask the origin.
#[tokio::test]
async fn a_change_of_another_url_turns_no_file_into_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    stored(cache(dir.path(), 0), "v1", "body").await;
    let now = cache(dir.path(), 0);
    let began = now.moment();
    let opened = now.open_all(now.0.disk.as_ref().unwrap(), &KEY, &HeaderMap::new());
    let (_, done) = now.0.remove_urls(vec![[9; 16]], false).await;
    done.unwrap();
    let loaded = now.load(opened[0].clone(), began).await;
    assert_eq!(told(&loaded.unwrap()), ("v1", &b"body"[..]));
    assert_eq!(now.status().memory.objects, 1);
}

#[tokio::test]
async fn a_purge_that_cannot_remove_files_hides_them() {
    let dir = tempfile::tempdir().unwrap();
    let now = cache(dir.path(), 0);
    stored(now, "v1", "body").await;
    now.0.disk.as_ref().unwrap().fail_to_remove(true);
    purge(now, 3).await;
    assert!(find(now).await.is_none());
    // After a restart, too, until it is replaced.
    let next = cache(dir.path(), 0);
    assert!(find(next).await.is_none());
    let object = stored(next, "v1", "new").await;
    assert_eq!(told(&object), ("v1", &b"new"[..]));
    assert!(find(cache(dir.path(), 0)).await.is_some());
}

#[tokio::test]
async fn one_reads_a_file_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let large = "x".repeat(20_000);
    stored(cache(dir.path(), 0), "v1", &large).await;
    let now = cache(dir.path(), 0);
    let finding: Vec<_> = (0..20).map(|_| tokio::spawn(find(now))).collect();
    let mut bodies = Vec::new();
    for found in finding {
        let object = found.await.unwrap().unwrap();
        let Body::Memory(body) = &object.body else {
            panic!("not in memory")
        };
        bodies.push(body.as_ptr());
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "read again");
    assert_eq!(now.status().memory.objects, 1);
    assert!(now.status().memory.bytes < 40_000);
}

#[tokio::test]
async fn an_answer_from_a_file_does_not_push_out_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let now = cache(dir.path(), 0);
    stored(now, "v0", "old").await;
    let disk = now.0.disk.as_ref().unwrap();
    let opened = now.open_all(disk, &KEY, &HeaderMap::new());
    let began = now.moment();
    let coming = answer(now, "v1", "new");
    let growing = growing::Growing::new(&now.0.memory);
    let coming = Arc::new(coming.moved(Body::Growing(Arc::new(growing))));
    assert!(now.0.memory.insert(&coming, || false));
    let loaded = now.load(opened[0].clone(), began).await;
    assert_eq!(told(&loaded.unwrap()), ("v0", &b"old"[..]));
    assert!(now.0.memory.contains(&coming));
}

#[tokio::test]
async fn many_purges_are_seen_to_together() {
    let dir = tempfile::tempdir().unwrap();
    let now = cache(dir.path(), 0);
    stored(now, "v1", "body").await;
    for n in 0..200 {
        now.purge(Purge::Tag(format!("other {n}"))).await.unwrap();
    }
    assert!(!now.0.purges.is_swept());
    sweep::sweep(now.0);
    assert!(now.0.purges.is_swept());
    assert!(find(now).await.is_some());
    now.purge(Purge::Tag("v1".into())).await.unwrap();
    assert_eq!(now.status().disk.unwrap().objects, 1);
    sweep::sweep(now.0);
    assert_eq!(now.status().disk.unwrap().objects, 0);
}

#[tokio::test]
async fn asking_for_everything_in_turn_does_not_push_out_what_is_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(dir.path(), 0);
    let key = |n: u8| Key {
        url: [n; 16],
        ..KEY
    };
    let ask = async |n: u8| {
        let found = cache.find(&key(n), &HeaderMap::new(), |_| true).await;
        found.object.unwrap()
    };
    let body = Bytes::from(vec![b'x'; 30_000]);
    for n in 0..50 {
        let born = cache.moment();
        let body = Body::Memory(body.clone());
        let place = "http://h/a";
        let object = Object::new(key(n), place, None, head("v"), freshness(1), body, born);
        cache.insert(object, cache.moment());
        let deadline = Instant::now() + Duration::from_secs(10);
        while cache.status().disk.unwrap().objects <= u64::from(n) {
            assert!(Instant::now() < deadline, "no file");
            tokio::task::yield_now().await;
        }
    }
    let evicted = || cache.0.memory.figures().3;
    let before = evicted();
    for _ in 0..3 {
        for n in 0..50 {
            ask(n).await;
        }
    }
    assert!(evicted() <= before + 1, "{before} {}", evicted());
    // What is asked for again meanwhile belongs there.
    let in_file = |object: &Object| matches!(object.body, Body::File(_));
    let mut outside = 0;
    for n in 0..50 {
        if in_file(&*ask(n).await) {
            outside += 1;
            assert!(!in_file(&*ask(n).await));
        }
    }
    assert!(outside > 0);
}

/// A large answer as a later process has it: its head in memory, its body in the open file.
async fn kept_open(dir: &Path) -> (Cache, Arc<Object>) {
    stored(cache(dir, 0), "v1", &"x".repeat(100_000)).await;
    let now = cache(dir, 0);
    let object = find(now).await.unwrap();
    assert!(matches!(object.body, Body::File(_)));
    assert!(
        Arc::ptr_eq(&object, &find(now).await.unwrap()),
        "opened again"
    );
    assert!(now.status().memory.bytes < 10_000, "only its head counts");
    (now, object)
}

fn file_of(object: &Object) -> &disk::Stored {
    match &object.body {
        Body::File(stored) => stored,
        _ => panic!("not in a file"),
    }
}

#[tokio::test]
async fn a_large_answer_stays_open_until_its_file_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (now, object) = kept_open(dir.path()).await;
    now.0.disk.as_ref().unwrap().remove(object.id());
    assert_eq!(now.status().memory.objects, 0, "it holds the room");
    assert!(find(now).await.is_none());
}

#[tokio::test]
async fn a_large_answer_whose_file_another_process_removes_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (now, object) = kept_open(dir.path()).await;
    cache(dir.path(), 0)
        .0
        .disk
        .as_ref()
        .unwrap()
        .remove(object.id());
    assert_eq!(file_of(&object).standing(), Standing::Gone);
    assert!(find(now).await.is_none());
}

#[tokio::test]
async fn what_is_alone_whole_and_for_all_is_found_at_once() {
    let found = |cache: Cache| cache.only(&KEY).map(|(_, standing)| standing);
    let with = |variant, body| {
        let now = Cache::new(1 << 20, None).unwrap();
        let (head, born) = (head("v1"), now.moment());
        let object = Object::new(KEY, "http://h/a", variant, head, freshness(1), body, born);
        now.insert(object, now.moment());
        assert_eq!(now.status().memory.objects, 1);
        now
    };
    let whole = || Body::Memory(Bytes::from_static(b"body"));
    let now = with(None, whole());
    assert_eq!(found(now), Some(None));
    // Which of two it is, and whether it is for who asks, is not to be seen from the key; a part is not for everybody.
    now.insert(answer(now, "v2", "body"), now.moment());
    assert_eq!(found(now), Some(None), "it took the place of the first");
    let other = Object::new(
        KEY,
        "http://h/a",
        Some([5; 16]),
        head("v3"),
        freshness(1),
        whole(),
        now.moment(),
    );
    now.insert(other, now.moment());
    assert_eq!(found(now), None);
    assert_eq!(found(with(Some([5; 16]), whole())), None);
    let parts = object::Parts {
        total: 9,
        pieces: vec![(3, Bytes::from_static(b"body"))],
    };
    assert_eq!(found(with(None, Body::Parts(parts))), None);
    let dir = tempfile::tempdir().unwrap();
    let (now, object) = kept_open(dir.path()).await;
    assert_eq!(found(now), Some(Some(file_of(&object).standing())));
    let other_process = cache(dir.path(), 0);
    other_process.0.disk.as_ref().unwrap().remove(object.id());
    assert_eq!(found(now), None);
}

#[tokio::test]
async fn a_validated_head_takes_the_place_of_one_whose_file_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (now, object) = kept_open(dir.path()).await;
    let again = validated(&object, "v1 again");
    now.replace(&object, &again, now.moment()).await;
    for cache in [now, cache(dir.path(), 0)] {
        let found = find(cache).await.unwrap();
        assert_eq!(found.head.headers()["etag"], "v1 again");
    }
}

#[tokio::test]
async fn a_body_counts_as_right_until_its_file_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (_, object) = kept_open(dir.path()).await;
    let file = file_of(&object);
    let deadline = Instant::now() + Duration::from_secs(10);
    while file.standing() != Standing::Right {
        assert!(Instant::now() < deadline, "never");
        // As soon as it was changed it may be changed again unseen.
        let Standing::Unknown(version) = file.standing() else {
            panic!("gone");
        };
        file.was_right(version);
        tokio::task::yield_now().await;
    }
    let path = only_file(&dir.path().join("objects"));
    let written = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_at(&written, b"y", 90_000).unwrap();
    assert!(matches!(file.standing(), Standing::Unknown(_)));
    let Standing::Unknown(version) = file.standing() else {
        panic!("gone");
    };
    file.was_right(version);
    assert_ne!(file.standing(), Standing::Right, "changed a moment ago");
}

fn only_file(dir: &Path) -> std::path::PathBuf {
    let shard = std::fs::read_dir(dir).unwrap().next().unwrap().unwrap();
    let file = std::fs::read_dir(shard.path()).unwrap().next().unwrap();
    file.unwrap().path()
}
