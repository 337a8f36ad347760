//! A cache whose process is killed, again and again, while it writes.

use crate::cache::rules;
use crate::cache_disk::{Dice, KEPT, bodies, files, taken, whole, with_sizes};
use crate::client::Client;
use crate::harness::until;
use rustix::process::Signal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const LIMIT: u64 = 32 << 20;

fn some_path(dice: &mut Dice) -> String {
    let len = [300, 3_000, 30_000, 300_000, 900_000, 2_500_000][dice.below(6)];
    let kind = ["length", "chunked"][dice.below(2)];
    format!("/{kind}/{len}/{}", dice.below(12))
}

fn killed_and_started_again(times: u64) {
    let dir = tempfile::tempdir().unwrap();
    let origin = bodies();
    let yaml = rules(&origin, KEPT);
    let checked = AtomicUsize::new(0);
    for round in 0..times {
        let mut proxy = with_sizes(dir.path(), "1MiB", "32MiB").start(&yaml);
        // What dead processes left is gone before anything is answered.
        let left = files(&dir.path().join("tmp"));
        assert!(left.is_empty(), "round {round}: {left:?}");
        let directories = std::fs::read_dir(dir.path().join("tmp")).unwrap().count();
        assert_eq!(directories, 1, "round {round}");
        let port = proxy.port;
        thread::scope(|scope| {
            for worker in 0..4 {
                let checked = &checked;
                scope.spawn(move || {
                    let mut dice = Dice(1 + worker + 4 * round);
                    dice.below(2);
                    // Until the process is gone. What was whole before that is right.
                    while let Ok(mut client) = Client::try_to(port) {
                        let path = some_path(&mut dice);
                        client.begin_if_open("GET", &path);
                        match client.try_answer_to("GET") {
                            Ok(answer) if answer.complete => {
                                whole(&answer, &path);
                                checked.fetch_add(1, Ordering::SeqCst);
                            }
                            _ => {}
                        }
                    }
                });
            }
            let enough = checked.load(Ordering::SeqCst) + 10 + (round % 7) as usize;
            until("some answers", || checked.load(Ordering::SeqCst) >= enough);
            proxy.signal(Signal::KILL);
            proxy.wait_exit(Duration::from_secs(5));
        });
        let taken = taken(dir.path());
        assert!(taken <= LIMIT + LIMIT / 20, "round {round}: {taken}");
        assert_eq!(proxy.count_said("is removed"), 0, "{}", proxy.stderr());
    }
    let asked = origin.count();
    let all = checked.load(Ordering::SeqCst);
    assert!(
        asked < all,
        "{asked} requests for {all} answers: nothing was kept"
    );
}

#[test]
fn a_cache_that_is_killed_while_it_writes_is_right_afterwards() {
    killed_and_started_again(12);
}

#[test]
#[ignore = "takes minutes"]
fn a_cache_that_is_killed_200_times_is_right_afterwards() {
    killed_and_started_again(200);
}
