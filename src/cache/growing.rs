//! A body that is still coming: one writes, any number read along.
//!
//! Written by `writer`, read by `reader`. Readers that come late begin at the start; what was written to a file is read
//! from there, so that a large body takes little memory. A body that broke off gives its readers an error, never a short end.

use super::disk::Stored;
use super::memory::Memory;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How far the writer runs ahead of the slowest reader once the body is not kept any more.
const WINDOW: u64 = 1 << 20;

/// How long those who were told of a body may take to begin reading it once it is not kept any more.
const GRACE: Duration = Duration::from_secs(1);

/// Bytes of a body that is not kept any more which are held for readers that stand still, or have not begun yet, as long as
/// there is memory.
const SPARE: usize = 4 << 20;

/// How long a reader may stand still before others go on without it, once a body is not kept any more.
const STANDSTILL: Duration = Duration::from_secs(2);

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub length: u64,
    /// Whether more is to come.
    pub end: End,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It does not yet.
    Open,
    /// It is whole.
    Whole,
    /// It broke off.
    Broken,
}

/// What there is at a position.
pub enum Piece {
    /// These bytes.
    Here(Bytes),
    /// Bytes in a file, up to this position.
    InFile(Arc<Stored>, u64),
    /// Nothing yet.
    NotYet,
    /// Nothing ever: the end.
    End,
    /// The body broke off, or what was here is gone.
    Lost,
}

/// A body under way.
pub struct Growing {
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    memory: &'static Memory,
}

#[derive(Default)]
struct State {
    /// What is in memory, in order, each with its position.
    pieces: VecDeque<(u64, Bytes)>,
    held: usize,
    /// The file with the beginning, and how far it goes.
    file: Option<(Arc<Stored>, u64)>,
    /// How far the file's writer took the body: further than it can be read back, as it writes whole blocks.
    taken: u64,
    /// Where each reader is, and since when.
    readers: HashMap<u64, (u64, Instant)>,
    next_reader: u64,
    /// Since when nobody else can come: what all readers have read can go.
    passing: Option<Instant>,
}

impl Growing {
    /// An empty body, whose bytes count as taken of `memory` while they are held.
    pub fn new(memory: &'static Memory) -> Self {
        let start = Progress {
            length: 0,
            end: End::Open,
        };
        Growing {
            state: Mutex::default(),
            progress: watch::Sender::new(start),
            memory,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Hears of every further byte.
    pub fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Adds to the end.
    pub fn push(&self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        self.memory.reserve(length);
        {
            let mut state = self.state();
            let at = self.progress.borrow().length;
            state.held += length;
            state.pieces.push_back((at, bytes));
        }
        self.progress.send_modify(|p| p.length += length as u64);
    }

    /// Says how it ended.
    pub fn end(&self, end: End) {
        self.progress.send_modify(|p| p.end = end);
    }

    /// Bytes that are held in memory.
    pub fn held(&self) -> usize {
        self.state().held
    }

    /// Everything that the file's writer did not take yet, as [`Growing::in_file`] tells.
    pub fn unwritten(&self) -> Vec<Bytes> {
        let state = self.state();
        let pieces = state.pieces.iter().filter(|(at, _)| *at >= state.taken);
        pieces.map(|(_, bytes)| bytes.clone()).collect()
    }

    /// The file's writer took all there is, and up to `to` it can be read from the file from now on.
    pub fn in_file(&self, file: Arc<Stored>, to: u64) {
        let length = self.progress.borrow().length;
        let mut state = self.state();
        state.taken = length;
        state.file = Some((file, to));
        state.forget(to, 0, self.memory);
    }

    /// There is no file any more. Says whether all of the body is still in memory, for another one.
    pub fn without_file(&self) -> bool {
        let mut state = self.state();
        let is_whole = state.pieces.front().is_some_and(|(at, _)| *at == 0);
        if is_whole {
            state.taken = 0;
            state.file = None;
        }
        is_whole
    }

    /// All of it in pieces, if it is in memory.
    pub fn pieces(&self) -> Option<Vec<Bytes>> {
        let state = self.state();
        let is_whole = state.pieces.front().is_none_or(|(at, _)| *at == 0);
        is_whole.then(|| {
            state
                .pieces
                .iter()
                .map(|(_, bytes)| bytes.clone())
                .collect()
        })
    }

    /// What there is at this position for this reader.
    pub fn piece(&self, reader: u64, at: u64) -> Piece {
        let mut state = self.state();
        let progress = *self.progress.borrow();
        let place = state.readers.entry(reader).or_insert((at, Instant::now()));
        if place.0 != at {
            *place = (at, Instant::now());
        }
        if at >= progress.length {
            return match progress.end {
                End::Open => Piece::NotYet,
                End::Whole => Piece::End,
                End::Broken => Piece::Lost,
            };
        }
        if let Some((file, to)) = &state.file
            && at < *to
        {
            return Piece::InFile(file.clone(), *to);
        }
        let after = state.pieces.partition_point(|(start, _)| *start <= at);
        match after.checked_sub(1).and_then(|i| state.pieces.get(i)) {
            Some((start, bytes)) => match usize::try_from(at - start) {
                Ok(skip) if skip < bytes.len() => Piece::Here(bytes.slice(skip..)),
                _ => Piece::Lost,
            },
            None => Piece::Lost,
        }
    }

    /// A number for a reader.
    pub fn join(&self) -> u64 {
        let mut state = self.state();
        state.next_reader += 1;
        let number = state.next_reader;
        state.readers.insert(number, (0, Instant::now()));
        number
    }

    /// The reader is gone.
    pub fn leave(&self, reader: u64) {
        self.state().readers.remove(&reader);
        // For a writer that waits for readers.
        self.progress.send_modify(|_| ());
    }

    /// From here on only those who read now will read it: the answer turned out too large to keep.
    pub fn pass(&self) {
        self.state().passing = Some(Instant::now());
    }

    /// Whether the writer may go on; where the body is not kept, it waits for its readers. `None`: nobody reads.
    pub fn room(&self) -> Option<bool> {
        let mut state = self.state();
        let Some(since) = state.passing else {
            return Some(true);
        };
        let slowest = match since.elapsed() < GRACE {
            true => 0,
            false => state.slowest()?,
        };
        // Those who lag behind or come late may still need what the others have read.
        let spare = match self.memory.is_exhausted() {
            true => 0,
            false => SPARE,
        };
        state.forget(slowest, spare, self.memory);
        Some(self.progress.borrow().length.saturating_sub(slowest) < WINDOW)
    }

    /// Hears of readers that went on or away.
    pub async fn readers_moved(&self) {
        // Readers do not announce each step; a writer that runs ahead looks again soon.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl State {
    /// Where the slowest reader is. One that stands still does not hold up those that go on.
    fn slowest(&self) -> Option<u64> {
        let places = || self.readers.values();
        let moving = places().filter(|(_, since)| since.elapsed() < STANDSTILL);
        let slowest = moving.map(|(at, _)| *at).min();
        slowest.or_else(|| places().map(|(at, _)| *at).min())
    }

    /// Lets go of what lies wholly before `to`, as far as more than `spare` bytes are held.
    fn forget(&mut self, to: u64, spare: usize, memory: &Memory) {
        while let Some((at, bytes)) = self.pieces.front() {
            if at + bytes.len() as u64 > to || self.held <= spare {
                break;
            }
            let length = bytes.len();
            self.held -= length;
            memory.release(length);
            self.pieces.pop_front();
        }
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        let held = self.state().held;
        self.memory.release(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growing(limit: usize) -> Growing {
        Growing::new(Box::leak(Box::new(Memory::new(limit))))
    }

    /// As after a second without anybody new.
    fn pass(growing: &Growing) {
        growing.pass();
        growing.state().passing = Instant::now().checked_sub(2 * GRACE);
    }

    /// Has not read for longer than others wait for it.
    fn stand_still(growing: &Growing, reader: u64) {
        if let Some((_, since)) = growing.state().readers.get_mut(&reader) {
            *since = Instant::now().checked_sub(2 * STANDSTILL).unwrap_or(*since);
        }
    }

    fn is_lost(growing: &Growing, reader: u64, at: u64) -> bool {
        matches!(growing.piece(reader, at), Piece::Lost)
    }

    #[test]
    fn who_stands_still_or_comes_late_loses_nothing_within_bounds() {
        for (limit, pieces, loses) in [
            (100 << 20, 3, false),
            // More than is held for anybody, or than there is memory.
            (100 << 20, 6, true),
            (2 << 20, 3, true),
        ] {
            let growing = growing(limit);
            let (still, moving) = (growing.join(), growing.join());
            pass(&growing);
            for n in 0..pieces {
                growing.push(Bytes::from(vec![n; 1 << 20]));
                let length = growing.progress().length;
                growing.piece(moving, length);
                stand_still(&growing, still);
                assert_eq!(growing.room(), Some(true), "nobody is held up");
            }
            let late = growing.join();
            assert_eq!(is_lost(&growing, still, 0), loses, "{limit} {pieces}");
            assert_eq!(is_lost(&growing, late, 0), loses, "{limit} {pieces}");
            assert!(growing.held() <= SPARE + (1 << 20));
        }
    }
}
