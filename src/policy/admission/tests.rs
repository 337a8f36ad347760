//! Who gets a place, as tables.

use super::*;
use Priority::{High, Low, Normal};

mod model;

fn rules(max: u32, queue: u32) -> AdmissionRules {
    AdmissionRules {
        max,
        queue,
        queue_timeout: ms(100),
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// With all places taken, and these waiting since 0, 1, 2 … ms, each woken by its letter.
fn full(rules: &AdmissionRules, waiting: &[(Priority, char)]) -> (Admission<char>, Vec<Ticket>) {
    let mut admission = Admission::new(rules);
    for _ in 0..rules.max {
        let asked = admission.ask(rules, ms(0), ms(0), Normal, || {
            unreachable!("no wait, no waker")
        });
        assert_eq!(asked, Asked::Admitted);
    }
    let mut tickets = Vec::new();
    for (at, &(priority, name)) in (0..).zip(waiting) {
        match admission.ask(rules, ms(at), ms(0), priority, || name) {
            Asked::Queued {
                ticket,
                deadline,
                displaced: None,
            } => {
                assert_eq!(deadline, ms(at + 100), "{name}");
                tickets.push(ticket);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    (admission, tickets)
}

/// Who is woken when one without a ticket leaves.
fn woken(admission: &mut Admission<char>, now: Duration) -> String {
    let mut woken = String::new();
    admission.leave(now, None, |name| {
        woken.push(name);
        true
    });
    woken
}

#[test]
fn a_request_that_waited_before_waits_for_the_rest_only() {
    let rules = rules(1, 2);
    let (mut admission, _) = full(&rules, &[]);
    let asked = admission.ask(&rules, ms(5), ms(70), Normal, || 'a');
    assert!(matches!(asked, Asked::Queued { deadline, .. } if deadline == ms(35)));
    let asked = admission.ask(&rules, ms(5), ms(100), High, || unreachable!("no wait"));
    assert_eq!(asked, Asked::Refused(Why::TimedOut));
    assert_eq!(admission.refused(Why::TimedOut), 1);
    assert_eq!(woken(&mut admission, ms(6)), "a");
    // Who needs not wait is asked nothing.
    let mut free = Admission::new(&rules);
    let asked = free.ask(&rules, ms(5), ms(100), Low, || 'b');
    assert_eq!(asked, Asked::Admitted);
}

#[test]
fn served_by_priority_then_in_order_of_arrival() {
    let order = [
        (Low, 'a'),
        (Normal, 'b'),
        (High, 'c'),
        (Normal, 'd'),
        (High, 'e'),
        (Low, 'f'),
    ];
    let (mut admission, _) = full(&rules(2, 6), &order);
    let served: String = (0..7).map(|_| woken(&mut admission, ms(50))).collect();
    assert_eq!(served, "cebdaf");
    assert_eq!((admission.active(), admission.queued()), (1, 0));
}

#[test]
fn who_is_taken_into_a_full_queue() {
    for (what, waiting, arriving, displaced) in [
        ("an equal is not", &[Normal, Normal][..], Normal, None),
        ("a lower is not", &[Normal, High], Low, None),
        ("the newest goes", &[Low, Low], Normal, Some(1)),
        ("of the lowest", &[Low, Normal], High, Some(0)),
        ("wherever it stands", &[High, Low], Normal, Some(1)),
        ("not below all", &[High, Normal], Normal, None),
        ("a normal for a high", &[Normal, High], High, Some(0)),
    ] {
        let rules = rules(1, 2);
        let names = waiting.iter().copied().zip(['0', '1']);
        let (mut admission, tickets) = full(&rules, &names.collect::<Vec<_>>());
        let asked = admission.ask(&rules, ms(50), ms(0), arriving, || 'x');
        match displaced {
            None => assert_eq!(asked, Asked::Refused(Why::QueueFull), "{what}"),
            Some(i) => {
                let expected = Some(char::from(b'0' + i as u8));
                let Asked::Queued { displaced, .. } = asked else {
                    panic!("{what}: {asked:?}");
                };
                assert_eq!(displaced, expected, "{what}");
                let withdrawn = admission.withdraw(ms(50), tickets[i]);
                assert_eq!(withdrawn, Withdrawn::WasRefused, "{what}");
            }
        }
        let count = |why| admission.refused(why);
        let refused = [Why::QueueFull, Why::Displaced, Why::TimedOut].map(count);
        let expected = if displaced.is_some() {
            [0, 1, 0]
        } else {
            [1, 0, 0]
        };
        assert_eq!((admission.queued(), refused), (2, expected), "{what}");
    }
}

#[test]
fn without_a_queue_nobody_waits() {
    for rules in [
        rules(1, 0),
        AdmissionRules {
            queue_timeout: Duration::ZERO,
            ..rules(1, 9)
        },
    ] {
        let (mut admission, _) = full(&rules, &[]);
        let asked = admission.ask(&rules, ms(0), ms(0), High, || 'x');
        assert_eq!(asked, Asked::Refused(Why::QueueFull));
    }
}

#[test]
fn a_deadline_ends_a_wait() {
    let waiting = [(Normal, 'a'), (Low, 'b'), (Normal, 'c')];
    // They came at 0, 1 and 2 ms, so their deadlines are 100, 101 and 102 ms. They are served a, c, b.
    for (now, served, timed_out) in [
        (99, "a", 0),
        (100, "c", 1),
        (101, "c", 1),
        (102, "", 3),
        (900, "", 3),
    ] {
        let (mut admission, tickets) = full(&rules(1, 3), &waiting);
        assert_eq!(woken(&mut admission, ms(now)), served, "at {now} ms");
        assert_eq!(admission.refused(Why::TimedOut), timed_out, "at {now} ms");
        // They find out by their own timers, and are not counted again.
        if now == 102 {
            for ticket in tickets {
                let withdrawn = admission.withdraw(ms(now), ticket);
                assert_eq!(withdrawn, Withdrawn::WasRefused);
            }
            assert_eq!(admission.refused(Why::TimedOut), 3);
        }
    }
}

#[test]
fn a_waiter_that_gives_up() {
    let (mut admission, tickets) = full(&rules(1, 3), &[(Normal, 'a'), (Normal, 'b')]);
    // Its client left: no refusal. The deadline passed: one.
    assert_eq!(admission.withdraw(ms(99), tickets[0]), Withdrawn::WasQueued);
    assert_eq!(admission.refused(Why::TimedOut), 0);
    assert_eq!(
        admission.withdraw(ms(101), tickets[1]),
        Withdrawn::WasQueued
    );
    assert_eq!(admission.refused(Why::TimedOut), 1);
    assert_eq!((admission.active(), admission.queued()), (1, 0));
}

#[test]
fn a_waiter_that_gives_up_too_late_recovers_its_place() {
    let (mut admission, tickets) = full(&rules(1, 3), &[(Normal, 'a'), (Normal, 'b')]);
    assert_eq!(woken(&mut admission, ms(5)), "a");
    assert_eq!(
        admission.withdraw(ms(5), tickets[0]),
        Withdrawn::WasAdmitted
    );
    assert_eq!(admission.active(), 1);
    let mut next = None;
    admission.leave(ms(6), Some(tickets[0]), |name| {
        next = Some(name);
        true
    });
    assert_eq!(next, Some('b'));
    // The place is another's by now: neither can it be given back again, nor is there one to recover.
    admission.leave(ms(7), Some(tickets[0]), |_| unreachable!());
    assert_eq!(admission.withdraw(ms(7), tickets[0]), Withdrawn::WasRefused);
    assert_eq!(admission.active(), 1);
}

#[test]
fn a_waiter_that_cannot_be_woken_passes_its_place_on() {
    let waiting = [(Normal, 'a'), (Normal, 'b'), (Normal, 'c')];
    let (mut admission, tickets) = full(&rules(1, 3), &waiting);
    let mut tried = String::new();
    admission.leave(ms(5), None, |name| {
        tried.push(name);
        name == 'b'
    });
    assert_eq!(tried, "ab");
    assert_eq!((admission.active(), admission.queued()), (1, 1));
    assert_eq!(admission.withdraw(ms(5), tickets[0]), Withdrawn::WasRefused);
    // With nobody to take it the place is free again.
    admission.leave(ms(6), Some(tickets[1]), |_| false);
    assert_eq!((admission.active(), admission.queued()), (0, 0));
}

#[test]
fn limits_that_change() {
    let waiting = [(Normal, 'a'), (Normal, 'b'), (Normal, 'c'), (Normal, 'd')];
    let set = |admission: &mut Admission<char>, max, limit| {
        let mut woken = String::new();
        admission.set_limit(&rules(max, 4), ms(9), limit, |name| {
            woken.push(name);
            true
        });
        (woken, admission.limit())
    };
    let (mut admission, _) = full(&rules(3, 4), &waiting);
    // Lowered: three are active, so the next two who leave hand nothing on.
    assert_eq!(set(&mut admission, 3, 1), (String::new(), 1));
    assert_eq!(woken(&mut admission, ms(9)), "");
    assert_eq!(woken(&mut admission, ms(9)), "");
    assert_eq!(woken(&mut admission, ms(9)), "a");
    // Raised, but not above the rules; and never to nothing.
    assert_eq!(set(&mut admission, 3, 99), ("bc".into(), 3));
    assert_eq!(set(&mut admission, 3, 0), (String::new(), 1));
    assert_eq!(set(&mut admission, 0, 9), (String::new(), 1));
    assert_eq!(set(&mut admission, 4, 4), ("d".into(), 4));
}

#[test]
fn nothing_remains_of_ten_thousand() {
    let rules = rules(1, 10_000);
    let (mut admission, tickets) = full(&rules, &vec![(Normal, 'x'); 10_000]);
    let asked = admission.ask(&rules, ms(0), ms(0), Low, || 'y');
    assert_eq!(asked, Asked::Refused(Why::QueueFull));
    // From the middle outwards.
    let (first, second) = tickets.split_at(5_000);
    for (a, b) in first.iter().rev().zip(second) {
        assert_eq!(admission.withdraw(ms(0), *a), Withdrawn::WasQueued);
        assert_eq!(admission.withdraw(ms(0), *b), Withdrawn::WasQueued);
    }
    assert_eq!(admission.queued(), 0);
    assert_eq!(woken(&mut admission, ms(0)), "");
    assert_eq!(admission.active(), 0);
}

#[test]
fn words_are_all_different() {
    let words = [Why::QueueFull, Why::TimedOut, Why::Displaced].map(Why::word);
    assert_eq!(words, ["queue_full", "queue_timeout", "displaced"]);
}
