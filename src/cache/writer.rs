//! Writing a body as it comes from the origin; Pingora's `HandleMiss`.
//!
//! Small bodies stay in memory until they are whole, large ones go to their file block by block. A body that is larger than
//! its route lets be kept, which shows only on the way where its length is not known, is handed through to those who read
//! it already and to nobody else.

use super::growing::{End, Growing};
use super::head::Head;
use super::object::{Body, Object, Parts};
use super::{SMALL, Store, codec, disk, sealed, whole};
use crate::policy::cache::validation::combinable;
use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_cache::storage::{HandleMiss, MissFinishType};
use std::sync::Arc;

use super::fills::Fill;
use super::moment::Moment;

/// Bytes that a head grows by once the length of its body is known, and some more: with too little room for it, all of the
/// file would have to be written again.
const LENGTH_ROOM: usize = 64;

/// One fill's writing.
pub struct Writer {
    store: &'static Store,
    /// When the fill began.
    began: Moment,
    object: Arc<Object>,
    growing: Arc<Growing>,
    max_object: u64,
    /// Whether a part of it may be kept.
    parts: bool,
    /// Whether it is still to be stored.
    kept: bool,
    file: Option<disk::Writer>,
    /// Whether a file failed: then all stays in memory, as far as it may.
    no_file: bool,
    whole: bool,
}

impl Writer {
    /// Writes the body of `object`, which must be a growing one; `kept`: it can be found, and is to be stored.
    pub fn new(
        store: &'static Store,
        fill: &Fill,
        object: Arc<Object>,
        growing: Arc<Growing>,
        (max_object, parts): (u64, bool),
        kept: bool,
    ) -> Self {
        if !kept {
            growing.pass();
        }
        Writer {
            store,
            began: fill.began(),
            object,
            growing,
            max_object,
            parts,
            kept,
            file: None,
            no_file: false,
            whole: false,
        }
    }

    /// It cannot be stored after all: nobody finds it any more.
    fn give_up(&mut self) {
        self.kept = false;
        drop_aside(self.file.take());
        self.store.memory.remove(&self.object);
        self.growing.pass();
    }

    /// Moves what is in memory to the file.
    async fn spill(&mut self) -> Result<()> {
        let (Some(disk), Some(id)) = (&self.store.disk, self.object.file) else {
            return Ok(());
        };
        let pieces = self.growing.unwritten();
        let (disk, file) = (disk.clone(), self.file.take());
        let room = codec::encode(&self.object).len() + LENGTH_ROOM;
        let written = tokio::task::spawn_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => disk.create(id, room)?,
            };
            for piece in &pieces {
                file.append(piece)?;
            }
            Ok::<_, disk::Off>(file)
        });
        match written
            .await
            .or_err(ErrorType::InternalError, "writing a file")?
        {
            Ok(file) => {
                self.growing.in_file(file.reader(), file.flushed());
                self.file = Some(file);
            }
            // No disk to be had: what was written before is gone with it, unless it is in memory.
            Err(_) if self.growing.without_file() => self.no_file = true,
            Err(_) => self.give_up(),
        }
        Ok(())
    }

    /// What can still be used of a body that broke off (RFC 9111 §3.3).
    fn keep_part(&self) {
        let tag = self.object.head.only(&[header::ETAG]);
        let Some(total) = self.object.length().filter(|_| combinable(&tag, &tag)) else {
            return;
        };
        let beginning = self.growing.pieces().unwrap_or_default().concat();
        if !beginning.is_empty() {
            let pieces = vec![(0, beginning.into_boxed_slice().into())];
            let part = self.object.moved(Body::Parts(Parts { total, pieces }));
            // Only in its own place: it may have been purged, or be older than what is there now.
            self.store.memory.replace(&self.object, &Arc::new(part));
        }
    }
}

#[async_trait]
impl HandleMiss for Writer {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        let length = self.growing.progress().length + data.len() as u64;
        if self.kept && length > self.max_object {
            self.store.passing.remember(self.object.key);
            self.give_up();
        }
        self.growing.push(data);
        let is_exhausted = self.store.memory.is_exhausted();
        let most = if is_exhausted { 0 } else { SMALL };
        if self.kept && !self.no_file && self.growing.held() > most {
            self.spill().await?;
        }
        // What goes to a file takes little.
        if self.kept && is_exhausted && self.file.is_none() {
            self.give_up();
        }
        loop {
            match self.growing.room() {
                Some(true) => return Ok(()),
                Some(false) => self.growing.readers_moved().await,
                None => return Error::e_explain(ErrorType::WriteError, "nobody reads it"),
            }
        }
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        self.whole = true;
        let length = self.growing.progress().length;
        if let Some(said) = self.object.length()
            && said != length
        {
            self.whole = false;
            return Error::e_explain(
                ErrorType::ReadError,
                "the body is not as long as it was to be",
            );
        }
        self.growing.end(End::Whole);
        // What is not found any more was purged, or a newer answer took its place.
        if !self.kept || !self.store.memory.contains(&self.object) {
            self.store.memory.remove(&self.object);
            return Ok(MissFinishType::Created(0));
        }
        let mut head = self.object.head.response(true)?;
        // Whole now: its length is known, however the backend framed it.
        head.remove_header(&header::TRANSFER_ENCODING);
        if head.status != http::StatusCode::NO_CONTENT {
            head.insert_header("Content-Length", length)?;
        }
        let whole = self
            .object
            .refreshed(Head::of(&head)?, self.object.freshness);
        if let Some(file) = self.file.take() {
            let rest = self.growing.unwritten();
            let head = codec::encode(&whole);
            let (store, object, began) = (self.store, self.object.clone(), self.began);
            let written = tokio::task::spawn_blocking(move || {
                let mut file = file;
                for piece in &rest {
                    file.append(piece)?;
                }
                // What is not in memory any more was purged meanwhile, or a newer answer took its place.
                let keep = || store.memory.contains(&object) && !store.purges.bars(&whole, began);
                file.finish_if(&head, &keep)
            });
            let written = written
                .await
                .or_err(ErrorType::InternalError, "writing a file")?;
            if let Ok(stored) = written {
                self.growing.in_file(stored, length);
            }
            // It is found in its file from now on.
            self.store.memory.remove(&self.object);
        } else if let Some(pieces) = self.growing.pieces() {
            let body = match self.object.file {
                // Sent from the file, once it is there.
                Some(_) => Body::Memory(whole::whole(&pieces)),
                None => sealed::body(&pieces),
            };
            let whole = Arc::new(whole.moved(body));
            if self.store.memory.replace(&self.object, &whole) {
                self.store.write_small(&whole, self.began).await;
            }
        }
        Ok(MissFinishType::Created(
            usize::try_from(length).unwrap_or(usize::MAX),
        ))
    }
}

/// Lets go of a file that is not to be finished: removing it may wait for the disk, which a worker must not.
fn drop_aside(file: Option<disk::Writer>) {
    let Some(file) = file else { return };
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn_blocking(move || drop(file));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop_aside(self.file.take());
        if !self.whole {
            if self.kept && self.parts {
                self.keep_part();
            }
            self.store.memory.remove(&self.object);
            self.growing.end(End::Broken);
        }
    }
}
