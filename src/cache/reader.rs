//! Reading a stored body, wherever it is; Pingora's `HandleHit`.

use super::disk::Stored;
use super::growing::{Growing, Piece, Progress};
use super::memory::Memory;
use super::object::{Body, Object};
use async_trait::async_trait;
use bytes::Bytes;
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_cache::CacheKey;
use pingora_cache::storage::{HandleHit, Storage};
use pingora_cache::trace::SpanHandle;
use std::any::Any;
use std::sync::Arc;
use tokio::sync::watch;

/// Bytes that are read from a file at least, as they are checked together.
const BLOCK: usize = 64 * 1024;

/// Bytes that are read from a file at once.
const PIECE: usize = 256 * 1024;

/// Bytes that are read from sealed memory at once, and where many slow clients take all there is: nothing is checked there.
const SEALED_PIECE: usize = 64 * 1024;
const SEALED_LEAST: usize = 16 * 1024;

/// One reading of one object.
pub struct Reader {
    object: Arc<Object>,
    next: u64,
    /// Where to stop, if before the end.
    end: u64,
    /// Bytes that are handed on at once at most.
    piece: usize,
    following: Option<Following>,
    memory: &'static Memory,
}

/// Bytes that were read for a client and count until the last who has some of them lets go: what waits for a client, in a connection
/// of HTTP/2 too.
struct Lent {
    bytes: Bytes,
    memory: &'static Memory,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.memory.returned(self.bytes.len());
    }
}

/// A reader's place at a body on its way.
struct Following {
    growing: Arc<Growing>,
    number: u64,
    progress: watch::Receiver<Progress>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.growing.leave(self.number);
    }
}

impl Reader {
    /// Reads from the beginning.
    pub fn new(object: Arc<Object>, piece: usize, memory: &'static Memory) -> Self {
        let following = match &object.body {
            Body::Growing(growing) => Some(Following {
                growing: growing.clone(),
                number: growing.join(),
                progress: growing.follow(),
            }),
            _ => None,
        };
        Reader {
            object,
            next: 0,
            end: u64::MAX,
            piece,
            following,
            memory,
        }
    }

    /// Whether it is known that nothing follows what was read.
    pub fn is_at_end(&self) -> bool {
        self.object.length() == Some(self.next)
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read(&mut self) -> Result<Option<Bytes>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let left = self.end - self.next;
        // Little for each slow client, where many of them take all the memory there is.
        let piece = match (&self.object.body, self.memory.is_crowded()) {
            (Body::Sealed(_), true) => SEALED_LEAST,
            (Body::Sealed(_), false) => SEALED_PIECE.min(self.piece),
            // To the end of a block: the rest would be read again.
            (_, true) => BLOCK,
            (_, false) => PIECE.min(self.piece.max(BLOCK)),
        };
        let most = usize::try_from(left).unwrap_or(piece).min(piece);
        let bytes = match &self.object.body {
            Body::Memory(bytes) => slice(bytes, self.next, left),
            Body::Sealed(sealed) => {
                let bytes = sealed.read_at(self.next, most);
                self.lend(bytes.or_err(ErrorType::ReadError, "a stored body cannot be read")?)
            }
            Body::Parts(parts) => {
                let end = self.end.min(parts.total);
                if self.next >= end {
                    return Ok(None);
                }
                let Some(bytes) = parts.get(self.next..end) else {
                    return Error::e_explain(ErrorType::ReadError, "this part is not stored");
                };
                bytes
            }
            Body::File(stored) => self.lend(read_file(stored, self.next, most).await?),
            Body::Growing(_) => match self.follow(most).await? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let bytes = slice(&bytes, 0, left.min(self.piece as u64));
        self.next += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Counts what is handed on.
    fn lend(&self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        let memory = self.memory;
        memory.lend(bytes.len());
        Bytes::from_owner(Lent { bytes, memory })
    }

    async fn follow(&mut self, most: usize) -> Result<Option<Bytes>> {
        let Some(following) = &mut self.following else {
            return Ok(None);
        };
        loop {
            following.progress.mark_unchanged();
            match following.growing.piece(following.number, self.next) {
                Piece::Here(bytes) => return Ok(Some(bytes)),
                Piece::InFile(file, to) => {
                    let there = usize::try_from(to - self.next).unwrap_or(most);
                    let bytes = read_file(&file, self.next, most.min(there)).await?;
                    return Ok(Some(self.lend(bytes)));
                }
                Piece::End => return Ok(None),
                Piece::Lost => {
                    return Error::e_explain(ErrorType::ReadError, "the fill broke off");
                }
                Piece::NotYet => {
                    let heard = following.progress.changed().await;
                    heard.or_err(ErrorType::ReadError, "the fill is gone")?;
                }
            }
        }
    }
}

/// What the page cache holds is read at once; what has to come from the disk, on a thread that may wait.
async fn read_file(stored: &Arc<Stored>, at: u64, most: usize) -> Result<Bytes> {
    if let Some(read) = stored.try_read_at(at, most) {
        return read.or_err(ErrorType::ReadError, "a stored body cannot be read");
    }
    let stored = stored.clone();
    let read = tokio::task::spawn_blocking(move || stored.read_at(at, most));
    let read = read
        .await
        .or_err(ErrorType::InternalError, "reading a file")?;
    read.or_err(ErrorType::ReadError, "a stored body cannot be read")
}

fn slice(bytes: &Bytes, from: u64, most: u64) -> Bytes {
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let to = from.saturating_add(most).min(bytes.len());
    bytes.slice(from..to)
}

#[async_trait]
impl HandleHit for Reader {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        self.read().await
    }

    async fn finish(
        self: Box<Self>,
        _storage: &'static (dyn Storage + Sync),
        _key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        self.next = start as u64;
        self.end = end.map_or(u64::MAX, |end| end as u64);
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}
