//! Lines on their way to the log. Each worker has a lane of its own, into which it writes them as they are to be in the file, some at
//! a time where they may be [`Pending`] until then; the log's thread empties all lanes every few milliseconds. So a line waits for
//! nobody, and wakes nobody but a thread that found nothing to do.

use super::access_log::{Line, Untold};
use super::pending::Pending;
use crate::policy::redact::Redaction;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// A batch that has so many bytes is not added to.
const LARGE: usize = 128 * 1024;
/// Room for most lines.
const LINE: usize = 1024;
/// What may wait in each lane whatever waits in others.
const OWN: usize = 256 * 1024;

/// Writes a line, without its end.
type Write = fn(&mut Vec<u8>, &Line<'_>);

/// Lines that are written at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whole lines, ends included.
    pub(super) text: Vec<u8>,
    /// How many of its bytes those are.
    whole: usize,
    /// How many lines.
    pub(super) lines: u64,
}

impl Batch {
    /// An empty one that has so many bytes, and a line more, without growing.
    fn with_room(bytes: usize) -> Self {
        let bytes = match bytes {
            0 => 0,
            bytes => bytes + LINE,
        };
        Batch {
            text: Vec::with_capacity(bytes),
            ..Batch::default()
        }
    }

    /// Has so many lines written after those it has, but for what could not be: how many that is, is what `write` says.
    fn add(&mut self, lines: u64, write: impl FnOnce(&mut Vec<u8>) -> u64) -> u64 {
        // What a panic left of the one before.
        self.text.truncate(self.whole);
        let lost = write(&mut self.text);
        self.whole = self.text.len();
        self.lines += lines - lost;
        lost
    }

    /// Has those that pend written.
    fn take_in(&mut self, pending: &mut Pending, shared: &Shared) -> u64 {
        let write = shared.write;
        self.add(pending.len() as u64, |text| {
            pending.write(text, &shared.rules, |out, line| {
                write(out, line);
                out.push(b'\n');
            })
        })
    }
}

/// What one worker has written.
#[derive(Debug, Default)]
struct Lines {
    full: Vec<Batch>,
    open: Batch,
    /// What comes after those.
    pending: Pending,
    /// Of all of it but for what pends, which is little, and how much of that counts among what lanes have in common.
    bytes: usize,
    common: usize,
}

/// A worker's lane.
#[derive(Debug)]
pub(super) struct Lane {
    lines: Mutex<Lines>,
    shared: Arc<Shared>,
}

/// What the lanes and the log's thread know of each other.
#[derive(Debug)]
struct Shared {
    /// Bytes that wait in lanes beyond what each has of its own, and how many of those there may be. Of them, what was taken and is
    /// not yet written counts too.
    common: AtomicUsize,
    most: usize,
    /// Whether the thread waits to be woken.
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
    /// How lines that pend are written, and by which rules they are made of requests: see [`Untold::line`].
    write: Write,
    rules: (Arc<Redaction>, Arc<str>),
    /// Lines that had no room, and those that could not be written.
    refused: AtomicU64,
    lost: AtomicU64,
}

/// All lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    all: Mutex<Vec<Arc<Lane>>>,
    shared: Arc<Shared>,
    /// Room for what pends: a lane gets it for what it had.
    spare: Mutex<Pending>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    /// Has a line written, without its end, if there is room for it; else it is counted as refused. For lanes in which none pend.
    pub(super) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.with_room(|lines, shared| {
            debug_assert_eq!(lines.pending.len(), 0, "it would overtake them");
            lines.add(shared, |batch, _| {
                batch.add(1, |text| {
                    write(text);
                    text.push(b'\n');
                    0
                })
            });
        });
    }

    /// Has it written with some more.
    pub(super) fn pend(&self, line: &Line<'_>) {
        self.with_room(|lines, shared| lines.pend(shared, |pending| pending.push(line)));
    }

    /// The same of a request whose line is still to be made.
    pub(super) fn keep(&self, untold: Box<dyn Untold>) {
        self.with_room(|lines, shared| lines.pend(shared, |pending| pending.keep(untold)));
    }

    fn with_room(&self, add: impl FnOnce(&mut Lines, &Shared)) {
        let shared = &*self.shared;
        let mut lines = locked(&self.lines);
        if lines.bytes > OWN && shared.common.load(Ordering::Relaxed) > shared.most {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            // Until there is room nothing pends: requests as a whole hold much that is not theirs.
            if lines.pending.len() > 0 {
                lines.add(shared, |batch, pending| batch.take_in(pending, shared));
            }
            return;
        }
        add(&mut lines, shared);
        drop(lines);
        shared.wake();
    }
}

impl Lines {
    /// Has something added to what is written, which says how many lines were lost.
    fn add(&mut self, shared: &Shared, add: impl FnOnce(&mut Batch, &mut Pending) -> u64) {
        let is_much = self.bytes > OWN;
        let before = self.open.whole;
        let lost = add(&mut self.open, &mut self.pending);
        if lost > 0 {
            shared.lost.fetch_add(lost, Ordering::Relaxed);
        }
        let more = self.open.whole - before;
        self.bytes += more;
        if is_much {
            self.common += more;
            shared.common.fetch_add(more, Ordering::Relaxed);
        }
        if self.open.text.len() >= LARGE {
            // Much comes: the next one will be as large.
            let full = std::mem::replace(&mut self.open, Batch::with_room(LARGE));
            self.full.push(full);
        }
    }

    /// Has something added to what pends.
    fn pend(&mut self, shared: &Shared, add: impl FnOnce(&mut Pending)) {
        add(&mut self.pending);
        if self.pending.is_full() {
            self.add(shared, |batch, pending| batch.take_in(pending, shared));
        }
    }

    fn are_empty(&self) -> bool {
        self.bytes == 0 && self.pending.len() == 0
    }
}

impl Shared {
    fn wake(&self) {
        // Who goes to sleep says so before it looks into the lanes for the last time: either it sees the line, or this sees that.
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(thread) = &*locked(&self.thread)
        {
            thread.unpark();
        }
    }
}

impl Lanes {
    /// None so far; so many bytes may wait in all, beyond a little of each. `write`: how lines that pend are. `rules`: see [`Untold::line`].
    pub(super) fn new(most: usize, write: Write, rules: (Arc<Redaction>, Arc<str>)) -> Self {
        Lanes {
            all: Mutex::default(),
            spare: Mutex::default(),
            shared: Arc::new(Shared {
                common: AtomicUsize::new(0),
                most,
                asleep: AtomicBool::new(false),
                thread: Mutex::new(None),
                write,
                rules,
                refused: AtomicU64::new(0),
                lost: AtomicU64::new(0),
            }),
        }
    }

    /// Lines for which there was no room.
    pub(super) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Lines that nobody will read: those, and those that could not be written.
    pub(super) fn dropped(&self) -> u64 {
        self.refused() + self.shared.lost.load(Ordering::Relaxed)
    }

    /// So many more could not be written.
    pub(super) fn lost(&self, lines: u64) {
        self.shared.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Another one.
    pub(super) fn open(&self) -> Arc<Lane> {
        let lane = Arc::new(Lane {
            lines: Mutex::default(),
            shared: self.shared.clone(),
        });
        locked(&self.all).push(lane.clone());
        lane
    }

    /// Empties all; hands on what was in them. Says whether there was anything.
    pub(super) fn take(&self, mut each: impl FnMut(Batch)) -> bool {
        let all = locked(&self.all).clone();
        let mut pending = locked(&self.spare);
        let mut any = false;
        for lane in &all {
            let (mut open, mut taken, mut common) = {
                let mut lines = locked(&lane.lines);
                let room = match lines.full.is_empty() {
                    // As much as the last time, and a little more.
                    true => Batch::with_room(lines.open.whole + lines.open.whole / 8),
                    false => Batch::with_room(LARGE),
                };
                std::mem::swap(&mut lines.pending, &mut *pending);
                lines.bytes = 0;
                let common = std::mem::take(&mut lines.common);
                let open = std::mem::replace(&mut lines.open, room);
                (open, std::mem::take(&mut lines.full), common)
            };
            open.text.reserve(pending.len() * LINE);
            let lost = open.take_in(&mut pending, &self.shared);
            self.lost(lost);
            taken.push(open);
            for batch in taken.into_iter().filter(|batch| batch.lines > 0) {
                any = true;
                let written = batch.whole.min(common);
                each(batch);
                common -= written;
                self.shared.common.fetch_sub(written, Ordering::Relaxed);
            }
            self.shared.common.fetch_sub(common, Ordering::Relaxed);
        }
        any
    }

    fn are_empty(&self) -> bool {
        let all = locked(&self.all);
        all.iter().all(|lane| locked(&lane.lines).are_empty())
    }

    /// The thread that empties them waits for something, for so long at most, unless there `is_more` to do.
    pub(super) fn sleep(&self, longest: Option<Duration>, is_more: impl Fn() -> bool) {
        locked(&self.shared.thread).get_or_insert_with(std::thread::current);
        self.shared.asleep.store(true, Ordering::Relaxed);
        if self.are_empty() && !is_more() {
            match longest {
                Some(longest) => std::thread::park_timeout(longest),
                None => std::thread::park(),
            }
        }
        self.shared.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No more of a line than its name.
    fn names(out: &mut Vec<u8>, line: &Line<'_>) {
        out.extend_from_slice(line.request_id.as_bytes());
        assert_ne!(line.request_id, "panic", "as it should");
    }

    fn rules() -> (Arc<Redaction>, Arc<str>) {
        (Arc::default(), "sub".into())
    }

    /// A request of which no more is known than its name.
    #[derive(Debug)]
    struct Whole(String);

    impl Untold for Whole {
        fn line(&self, redaction: &Redaction, claim: &str) -> Line<'_> {
            assert_eq!((redaction, claim), (&Redaction::default(), "sub"));
            assert_ne!(self.0, "none", "as it should");
            named(&self.0)
        }

        fn bytes(&self) -> usize {
            self.0.len()
        }
    }

    fn named(name: &str) -> Line<'_> {
        Line {
            request_id: name,
            ..Line::default()
        }
    }

    #[test]
    fn no_line_is_lost_or_torn() {
        const EACH: u64 = 20_000;
        let lanes = Lanes::new(usize::MAX, names, rules());
        let mine: Vec<_> = (0..3).map(|_| lanes.open()).collect();
        let mut seen = vec![0; mine.len()];
        std::thread::scope(|scope| {
            for (name, lane) in mine.iter().enumerate() {
                scope.spawn(move || {
                    for n in 0..EACH {
                        let line = format!("{name} {n}");
                        match name {
                            0 => lane.append(|out| out.extend(line.bytes())),
                            1 => lane.pend(&named(&line)),
                            // One by one, some in a row, and one among others.
                            _ if n % 7 < 3 || n % 100 > 50 => lane.keep(Box::new(Whole(line))),
                            _ => lane.pend(&named(&line)),
                        }
                    }
                });
            }
            while seen.iter().any(|seen| *seen < EACH) {
                lanes.sleep(None, || false);
                lanes.take(|batch| {
                    let text = String::from_utf8(batch.text).unwrap();
                    assert!(text.ends_with('\n') && text.len() < 2 * LARGE);
                    assert_eq!(text.lines().count() as u64, batch.lines);
                    for line in text.lines() {
                        let (name, n) = line.split_once(' ').unwrap();
                        let seen = &mut seen[name.parse::<usize>().unwrap()];
                        // Each worker's are in their order.
                        assert_eq!(n.parse::<u64>().unwrap(), *seen);
                        *seen += 1;
                    }
                });
            }
        });
    }

    #[test]
    fn so_much_waits_and_no_more() {
        let lanes = Lanes::new(1000, names, rules());
        let (one, other) = (lanes.open(), lanes.open());
        let line = |lane: &Lane| {
            let before = lanes.dropped();
            lane.append(|out| out.extend([b'x'; 49]));
            lanes.dropped() == before
        };
        let fill = |lane: &Lane| (0..OWN).take_while(|_| line(lane)).count();
        // One takes what all have in common; what is its own is still there for the other.
        let own = OWN / 50 + 1;
        assert_eq!((fill(&one), fill(&other)), (own + 21, own));
        one.append(|_| unreachable!("there is no room"));
        // What is not yet written is not room.
        assert!(lanes.take(|_| assert!(fill(&one) <= own)));
        while lanes.take(|_| {}) {}
        assert_eq!(lanes.shared.common.load(Ordering::Relaxed), 0);
        assert_eq!((fill(&other), fill(&one)), (own + 21, own));
        while lanes.take(|_| {}) {}
        assert!(!lanes.take(|_| unreachable!("nothing is left")));
    }

    #[test]
    fn so_much_waits_of_what_pends_too() {
        let lanes = Lanes::new(1000, names, rules());
        let (one, other) = (lanes.open(), lanes.open());
        let line = "x".repeat(49);
        let fill = |lane: &Lane| {
            let before = lanes.dropped();
            let pend = |_: &usize| {
                lane.pend(&named(&line));
                lanes.dropped() == before
            };
            (0..OWN).take_while(pend).count()
        };
        let (first, second) = (fill(&one), fill(&other));
        // They are counted when they are written.
        assert!(
            (OWN / 50 + 20..OWN / 50 + 20 + 2 * 32).contains(&first),
            "{first}"
        );
        assert!((OWN / 50..OWN / 50 + 32).contains(&second), "{second}");
        let mut taken = 0;
        lanes.take(|batch| taken += batch.lines);
        assert_eq!(taken, (first + second) as u64);
        assert_eq!(lanes.shared.common.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_pends_while_there_is_no_room() {
        let lanes = Lanes::new(1000, names, rules());
        let (one, other) = (lanes.open(), lanes.open());
        let line = "x".repeat(49);
        let pending = || locked(&one.lines).pending.len();
        while locked(&one.lines).bytes <= OWN {
            one.pend(&named(&line));
        }
        (0..3).for_each(|_| one.keep(Box::new(Whole("short".into()))));
        assert_eq!(pending(), 3);
        // What all have in common is taken.
        while lanes.dropped() == 0 {
            other.pend(&named(&line));
        }
        one.keep(Box::new(Whole("late".into())));
        assert_eq!((pending(), lanes.dropped()), (0, 2));
    }

    #[test]
    fn long_lines_pend_in_small_numbers() {
        let lanes = Lanes::new(1000, names, rules());
        let lane = lanes.open();
        let line = "x".repeat(10_000);
        let pending = || locked(&lane.lines).pending.len();
        let mut each = [0; 40].map(|_| {
            lane.pend(&named(&line));
            pending()
        });
        assert_eq!(each.iter().max(), Some(&3));
        lanes.take(|_| {});
        each = each.map(|_| {
            lane.keep(Box::new(Whole(line.clone())));
            pending()
        });
        assert_eq!(each.iter().max(), Some(&3));
        // Of short ones as many as may be.
        lanes.take(|_| {});
        each = each.map(|_| {
            lane.keep(Box::new(Whole("short".into())));
            pending()
        });
        assert_eq!(each.iter().max(), Some(&15));
    }

    #[test]
    fn a_line_that_breaks_off_is_no_line() {
        let lanes = Lanes::new(1000, names, rules());
        let lane = lanes.open();
        lane.append(|out| out.extend(b"one"));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lane.append(|out| {
                out.extend(b"half of");
                panic!("in the middle");
            });
        }));
        assert!(panicked.is_err());
        lane.append(|out| out.extend(b"two"));
        assert!(lanes.take(|batch| assert_eq!(batch.text, b"one\ntwo\n")));
        // Of those that pend no other is lost with it.
        for name in ["three", "panic", "four"] {
            lane.pend(&named(name));
        }
        for name in ["five", "none", "six", "panic", "seven"] {
            lane.keep(Box::new(Whole(name.into())));
        }
        let written = b"three\nfour\nfive\nsix\nseven\n";
        assert!(lanes.take(|batch| assert_eq!((&*batch.text, batch.lines), (&written[..], 5))));
        assert_eq!(lanes.dropped(), 3);
    }
}
