//! The memory tier: whole objects in a sharded map.
//!
//! Pingora's phases call it; eviction decides what has to go and purges it here. An object is either there whole or not at
//! all: a fill that breaks off leaves nothing.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_cache::key::{CacheHashKey, HashBinary};
use pingora_cache::storage::{
    HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget,
    PurgeType, Storage,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta};
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Maps, so that workers rarely wait for one another.
const SHARDS: usize = 64;
/// What an object takes beside its header's and body's bytes: map entry, list entry, allocations.
const OVERHEAD: usize = 512;

/// One stored answer.
struct Object {
    created: SystemTime,
    fresh_until: SystemTime,
    stale_while_revalidate: u32,
    stale_if_error: u32,
    variance: Option<HashBinary>,
    head: ResponseHeader,
    body: Bytes,
}

impl Object {
    fn new(meta: &CacheMeta, body: Bytes) -> Self {
        Object {
            created: meta.created(),
            fresh_until: meta.fresh_until(),
            stale_while_revalidate: meta.stale_while_revalidate_sec(),
            stale_if_error: meta.stale_if_error_sec(),
            variance: meta.variance(),
            head: meta.response_header_copy(),
            body,
        }
    }

    fn meta(&self) -> CacheMeta {
        let mut meta = CacheMeta::new(
            self.fresh_until,
            self.created,
            self.stale_while_revalidate,
            self.stale_if_error,
            self.head.clone(),
        );
        if let Some(variance) = self.variance {
            meta.set_variance(variance);
        }
        meta
    }

    fn size(&self) -> usize {
        let fields = self.head.headers.iter();
        let head: usize = fields
            .map(|(name, value)| 2 * name.as_str().len() + value.len() + 64)
            .sum();
        OVERHEAD + head + self.body.len()
    }
}

/// The map.
pub(super) struct Memory {
    shards: [Shard; SHARDS],
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            shards: std::array::from_fn(|_| Shard::default()),
        }
    }
}

type Shard = Mutex<HashMap<HashBinary, Arc<Object>>>;

impl Memory {
    fn shard(&self, key: &HashBinary) -> MutexGuard<'_, HashMap<HashBinary, Arc<Object>>> {
        let shard = &self.shards[usize::from(key[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Storage for Memory {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let key = key.combined_bin();
        let object = self.shard(&key).get(&key).cloned();
        Ok(object.map(|object| {
            let hit: HitHandler = Box::new(Hit {
                end: object.body.len(),
                next: 0,
                object: object.clone(),
            });
            (object.meta(), hit)
        }))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        Ok(Box::new(Fill {
            memory: self,
            key: key.combined_bin(),
            object: Object::new(meta, Bytes::new()),
            body: BytesMut::new(),
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _purge_type: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let key = target.key().combined_bin();
        Ok(match self.shard(&key).remove(&key) {
            Some(_) => PurgeOutcome::Purged(None),
            None => PurgeOutcome::NotFound,
        })
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<bool> {
        let key = key.combined_bin();
        let mut shard = self.shard(&key);
        let Some(old) = shard.get(&key) else {
            return Ok(false);
        };
        let object = Object::new(meta, old.body.clone());
        shard.insert(key, Arc::new(object));
        Ok(true)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// A stored answer being read.
struct Hit {
    object: Arc<Object>,
    next: usize,
    end: usize,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let (from, to) = (self.next, self.end.min(self.object.body.len()));
        self.next = to;
        Ok((from < to).then(|| self.object.body.slice(from..to)))
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
        let length = self.object.body.len();
        self.next = start.min(length);
        self.end = end.unwrap_or(length).min(length);
        Ok(())
    }

    fn get_eviction_weight(&self) -> usize {
        self.object.size()
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// An answer on its way in. Dropped before [`HandleMiss::finish`], it was never there.
struct Fill {
    memory: &'static Memory,
    key: HashBinary,
    object: Object,
    body: BytesMut,
}

#[async_trait]
impl HandleMiss for Fill {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        self.body.extend_from_slice(&data);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        let mut object = self.object;
        // Exactly as large as it counts: the buffer it grew in may be twice that.
        object.body = Bytes::copy_from_slice(&self.body);
        // Whole now: its length is known, however the backend framed it.
        object.head.remove_header(&header::TRANSFER_ENCODING);
        if object.head.status != http::StatusCode::NO_CONTENT {
            object
                .head
                .insert_header("Content-Length", object.body.len())?;
        }
        let size = object.size();
        self.memory
            .shard(&self.key)
            .insert(self.key, Arc::new(object));
        Ok(MissFinishType::Created(size))
    }
}
