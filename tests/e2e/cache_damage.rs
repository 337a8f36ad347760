//! Files of the cache that are not what they were: nobody ever gets a wrong byte of them.

use crate::cache::{hit, is_hit, rules};
use crate::cache_disk::{
    KEPT, bodies, body_of, expected, files, kill, objects, on_disk, until_written, whole,
};
use crate::client::{Client, get};
use crate::harness::{Proxy, eventually, until};
use crate::origin::Origin;
use crate::reply::Reply;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file whose body begins like this target's.
fn file_of(dir: &Path, target: &str) -> PathBuf {
    let body = expected(target);
    let begin = &body[..body.len().min(32)];
    eventually("the file of an answer", || {
        objects(dir).into_iter().find(|file| {
            let bytes = fs::read(file).unwrap_or_default();
            bytes.windows(begin.len()).any(|w| w == begin)
        })
    })
}

/// So many answers together push everything else out of a memory of 1 MiB.
const PUSHING: usize = 50;

fn push_out(client: &mut Client) {
    for n in 0..PUSHING {
        // Larger ones stay in their files.
        let path = format!("/length/30000/push-{n}");
        // Only what was used more recently than the oldest there goes from a file into memory.
        whole(&client.get(&path), &path);
        whole(&client.get(&path), &path);
    }
}

#[test]
fn every_flipped_byte_of_a_small_file_is_noticed() {
    const COPIES: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
    let mut client = Client::to(proxy.port);
    let paths: Vec<String> = (10..10 + COPIES)
        .map(|n| format!("/length/100/{n}"))
        .collect();
    for path in &paths {
        whole(&client.get(path), path);
    }
    until_written(dir.path(), COPIES);
    push_out(&mut client);
    until_written(dir.path(), COPIES + PUSHING);
    let names: Vec<PathBuf> = paths.iter().map(|p| file_of(dir.path(), p)).collect();
    let good: Vec<Vec<u8>> = names.iter().map(|f| fs::read(f).unwrap()).collect();
    let len = good[0].len();
    let mut harmless = 0;
    // Each file has another byte flipped, in each round, until every byte of a file was.
    for begin in (0..len).step_by(COPIES) {
        let flips: Vec<(usize, usize)> = (begin..len.min(begin + COPIES)).enumerate().collect();
        for &(n, at) in &flips {
            let mut bytes = good[n].clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&names[n], bytes).unwrap();
        }
        push_out(&mut client);
        for &(n, at) in &flips {
            let asked = origin.count();
            let answer = client.get(&paths[n]);
            whole(&answer, &paths[n]);
            assert_eq!(answer.header("etag"), Some("\"1\""), "byte {at}");
            if is_hit(&answer) {
                harmless += 1;
                continue;
            }
            assert_eq!(origin.count(), asked + 1);
            // It is written anew, with another time stamp.
            until("the new file", || {
                fs::read(&names[n])
                    .is_ok_and(|new| new.len() == len && new[40..56] != good[n][40..56])
            });
            fs::write(&names[n], &good[n]).unwrap();
        }
    }
    // What does not count as yet is the second place for a head.
    assert!(harmless < len / 2, "{harmless} of {len} bytes go unnoticed");
    // Once for each kind of damage.
    let said = proxy.count_said("is removed");
    assert!((1..=8).contains(&said), "{}", proxy.stderr());
}

/// What can become of a file.
type Damage = (&'static str, fn(&Path, &Path));

const DAMAGES: [Damage; 12] = [
    ("empty", |file, _| fs::write(file, "").unwrap()),
    ("one byte", |file, _| cut(file, |_| 1)),
    ("cut in the prefix", |file, _| cut(file, |_| 60)),
    ("cut in the head", |file, _| cut(file, |_| 200)),
    ("one byte short", |file, _| cut(file, |len| len - 1)),
    ("half", |file, _| cut(file, |len| len / 2)),
    ("one byte longer", |file, _| {
        let mut bytes = fs::read(file).unwrap();
        bytes.push(0);
        fs::write(file, bytes).unwrap();
    }),
    ("another's", |file, other| {
        fs::copy(other, file).unwrap();
    }),
    ("foreign", |file, _| {
        fs::write(file, "HTTP/1.1 200 OK\r\n\r\nhello".repeat(50)).unwrap();
    }),
    ("newer", |file, _| {
        let mut bytes = fs::read(file).unwrap();
        bytes[8] += 1;
        fs::write(file, bytes).unwrap();
    }),
    ("a link to another", |file, other| {
        fs::remove_file(file).unwrap();
        std::os::unix::fs::symlink(other, file).unwrap();
    }),
    ("a directory", |file, _| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
        fs::write(file.join("within"), "x").unwrap();
    }),
];

fn cut(file: &Path, to: impl Fn(u64) -> u64) {
    let open = fs::File::options().write(true).open(file).unwrap();
    let len = open.metadata().unwrap().len();
    open.set_len(to(len)).unwrap();
}

/// One small and one large answer for each damage, and one that is left alone.
fn damaged_paths() -> Vec<(String, Option<Damage>)> {
    let mut all = vec![("/length/900/good".to_string(), None)];
    for (n, damage) in DAMAGES.into_iter().enumerate() {
        all.push((format!("/length/{}/small", 500 + n), Some(damage)));
        all.push((format!("/chunked/{}/large", 700_000 + n), Some(damage)));
    }
    all
}

fn damage_all(dir: &Path, names: &[PathBuf], paths: &[(String, Option<Damage>)]) {
    let other = dir.join("other");
    fs::copy(&names[0], &other).unwrap();
    for (name, (_, damage)) in names.iter().zip(paths) {
        if let Some((_, damage)) = damage {
            damage(name, &other);
        }
    }
}

/// All answers are right, and all that can be kept is kept again.
fn check(proxy: &Proxy, origin: &Origin, paths: &[(String, Option<Damage>)]) {
    let asked = origin.count();
    for (path, damage) in paths {
        let answer = get(proxy.port, path);
        let what = damage.map_or("good", |(what, _)| what);
        assert_eq!(is_hit(&answer), damage.is_none(), "{what}: {path}");
        whole(&answer, path);
    }
    assert_eq!(origin.count(), asked + paths.len() - 1);
    // Nothing of it keeps others from being stored.
    let next = format!("/length/600000/after-{asked}");
    whole(&get(proxy.port, &next), &next);
    until("it is stored", || is_hit(&get(proxy.port, &next)));
}

#[test]
fn damaged_files_are_asked_for_anew_after_a_restart_and_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let yaml = rules(&origin, KEPT);
    let paths = damaged_paths();
    let mut proxy = on_disk(dir.path()).start(&yaml);
    for (path, _) in &paths {
        whole(&get(proxy.port, path), path);
    }
    until_written(dir.path(), paths.len());
    let names: Vec<PathBuf> = paths.iter().map(|(p, _)| file_of(dir.path(), p)).collect();
    for is_running in [false, true] {
        for name in &names {
            if name.is_dir() {
                fs::remove_dir_all(name).unwrap();
            }
        }
        // What is in memory is not written again.
        push_out(&mut Client::to(proxy.port));
        for (path, _) in &paths {
            whole(&get(proxy.port, path), path);
        }
        until("all files", || names.iter().all(|n| n.is_file()));
        if is_running {
            push_out(&mut Client::to(proxy.port));
            damage_all(dir.path(), &names, &paths);
        } else {
            kill(proxy);
            damage_all(dir.path(), &names, &paths);
            proxy = on_disk(dir.path()).start(&yaml);
        }
        check(&proxy, &origin, &paths);
    }
}

#[test]
fn a_byte_in_the_middle_of_a_large_file_costs_one_answer_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
    let path = "/length/3000000/x";
    for at in [500_000, 1_500_000, 2_999_000] {
        whole(&get(proxy.port, path), path);
        until("it is stored", || is_hit(&get(proxy.port, path)));
        let file = file_of(dir.path(), path);
        let mut bytes = fs::read(&file).unwrap();
        bytes[at] ^= 0x10;
        fs::write(&file, bytes).unwrap();
        let answer = get(proxy.port, path);
        let expected = expected(path);
        assert!(expected.starts_with(&answer.body), "a wrong byte");
        assert!(!answer.complete || answer.body == expected);
        whole(&get(proxy.port, path), path);
    }
}

/// The kernel sends such a body straight from its file once it was found to be right.
#[test]
fn a_byte_of_a_file_that_is_open_and_was_right_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let path = "/length/100000/x";
    for at in [0, 50_000, 65_536, 99_999, 100_007, 100_015] {
        let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
        whole(&get(proxy.port, path), path);
        until("its file", || {
            let bytes = objects(dir.path()).first().map(fs::read);
            let bytes = bytes.and_then(Result::ok).unwrap_or_default();
            bytes.windows(1000).any(|w| w == &expected(path)[..1000])
        });
        kill(proxy);
        // One that has it in its file only.
        let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
        let mut client = Client::to(proxy.port);
        // As long as it was changed a moment ago, it is read each time.
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(150) {
            let answer = client.get(path);
            hit(&answer);
            whole(&answer, path);
        }
        let file = objects(dir.path()).remove(0);
        // The checksums of two blocks follow the body.
        let place = fs::metadata(&file).unwrap().len() - 2 * 8 - 100_000 + at;
        let open = fs::File::options().read(true).write(true).open(&file);
        let open = open.unwrap();
        let mut byte = [0];
        open.read_exact_at(&mut byte, place).unwrap();
        // A fixed byte may be the one that is there already: checksums differ from file to file.
        open.write_all_at(&[byte[0] ^ 1], place).unwrap();
        let answer = client.get(path);
        whole(&answer, path);
        assert!(!is_hit(&answer), "{at}");
    }
}

#[test]
fn an_emptied_directory_is_filled_again() {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let proxy = on_disk(dir.path()).start(&rules(&origin, KEPT));
    let paths = ["/length/700000/a", "/chunked/800000/b"];
    for _ in 0..2 {
        for path in paths {
            whole(&get(proxy.port, path), path);
        }
        until_written(dir.path(), 2);
        for path in paths {
            let answer = get(proxy.port, path);
            hit(&answer);
            whole(&answer, path);
        }
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
        assert!(files(dir.path()).is_empty());
    }
}

#[test]
fn stored_errors_of_old_do_not_outlive_a_new_secret() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::new(|r| Reply::ok(body_of(&r.target, 3_000)));
    let yaml = rules(&origin, KEPT);
    let proxy = on_disk(dir.path()).start(&yaml);
    assert!(get(proxy.port, "/a").body == body_of("/a", 3_000));
    until_written(dir.path(), 1);
    kill(proxy);
    // Cut short, as a crash of the system may leave it.
    cut(&dir.path().join("secret"), |_| 7);
    let proxy = on_disk(dir.path()).start(&yaml);
    for _ in 0..2 {
        assert!(get(proxy.port, "/a").body == body_of("/a", 3_000));
    }
    hit(&get(proxy.port, "/a"));
    assert_eq!(origin.count(), 2);
}
