//! Lines on their way to the log. Each worker has a lane of its own, into which it writes them as they are to be in the file; the
//! log's thread empties all lanes every few milliseconds. So a line is written once, waits for nobody, and wakes nobody but a
//! thread that found nothing to do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// A batch that has so many bytes is not added to.
const LARGE: usize = 128 * 1024;
/// Room for most lines.
const LINE: usize = 1024;
/// What may wait in each lane whatever waits in others.
const OWN: usize = 256 * 1024;

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
}

/// What one worker has written.
#[derive(Debug, Default)]
struct Lines {
    full: Vec<Batch>,
    open: Batch,
    /// Of all of it, and how much of that counts among what lanes have in common.
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
}

/// All lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    all: Mutex<Vec<Arc<Lane>>>,
    shared: Arc<Shared>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    /// Has a line written, without its end. Says whether there was room for it.
    pub(super) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut lines = locked(&self.lines);
        let is_much = lines.bytes > OWN;
        if is_much && self.shared.common.load(Ordering::Relaxed) > self.shared.most {
            return false;
        }
        let before = lines.open.whole;
        // What a panic left of the one before.
        lines.open.text.truncate(before);
        write(&mut lines.open.text);
        lines.open.text.push(b'\n');
        lines.open.whole = lines.open.text.len();
        lines.open.lines += 1;
        let more = lines.open.whole - before;
        lines.bytes += more;
        if is_much {
            lines.common += more;
            self.shared.common.fetch_add(more, Ordering::Relaxed);
        }
        if lines.open.text.len() >= LARGE {
            // Much comes: the next one will be as large.
            let full = std::mem::replace(&mut lines.open, Batch::with_room(LARGE));
            lines.full.push(full);
        }
        drop(lines);
        self.shared.wake();
        true
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
    /// None so far; so many bytes may wait in all, beyond a little of each.
    pub(super) fn new(most: usize) -> Self {
        Lanes {
            all: Mutex::default(),
            shared: Arc::new(Shared {
                common: AtomicUsize::new(0),
                most,
                asleep: AtomicBool::new(false),
                thread: Mutex::new(None),
            }),
        }
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
        let mut any = false;
        for lane in &all {
            let (taken, mut common) = {
                let mut lines = locked(&lane.lines);
                let room = match lines.full.is_empty() {
                    // As much as the last time, and a little more.
                    true => Batch::with_room(lines.open.whole + lines.open.whole / 8),
                    false => Batch::with_room(LARGE),
                };
                lines.bytes = 0;
                let common = std::mem::take(&mut lines.common);
                let mut open = std::mem::replace(&mut lines.open, room);
                open.text.truncate(open.whole);
                let mut taken = std::mem::take(&mut lines.full);
                taken.push(open);
                (taken, common)
            };
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
        all.iter().all(|lane| locked(&lane.lines).bytes == 0)
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

    #[test]
    fn no_line_is_lost_or_torn() {
        const EACH: u64 = 20_000;
        let lanes = Lanes::new(usize::MAX);
        let mine: Vec<_> = (0..3).map(|_| lanes.open()).collect();
        let mut seen = vec![0; mine.len()];
        std::thread::scope(|scope| {
            for (name, lane) in mine.iter().enumerate() {
                scope.spawn(move || {
                    for n in 0..EACH {
                        assert!(lane.append(|out| out.extend(format!("{name} {n}").bytes())));
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
        let lanes = Lanes::new(1000);
        let (one, other) = (lanes.open(), lanes.open());
        let line = |lane: &Lane| lane.append(|out| out.extend([b'x'; 49]));
        let fill = |lane: &Lane| (0..OWN).take_while(|_| line(lane)).count();
        // One takes what all have in common; what is its own is still there for the other.
        let own = OWN / 50 + 1;
        assert_eq!((fill(&one), fill(&other)), (own + 21, own));
        assert!(!one.append(|_| unreachable!("there is no room")));
        // What is not yet written is not room.
        assert!(lanes.take(|_| assert!(fill(&one) <= own)));
        while lanes.take(|_| {}) {}
        assert_eq!(lanes.shared.common.load(Ordering::Relaxed), 0);
        assert_eq!((fill(&other), fill(&one)), (own + 21, own));
        while lanes.take(|_| {}) {}
        assert!(!lanes.take(|_| unreachable!("nothing is left")));
    }

    #[test]
    fn a_line_that_breaks_off_is_no_line() {
        let lanes = Lanes::new(1000);
        let lane = lanes.open();
        assert!(lane.append(|out| out.extend(b"one")));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lane.append(|out| {
                out.extend(b"half of");
                panic!("in the middle");
            })
        }));
        assert!(panicked.is_err());
        assert!(lane.append(|out| out.extend(b"two")));
        assert!(lanes.take(|batch| assert_eq!(batch.text, b"one\ntwo\n")));
    }
}
