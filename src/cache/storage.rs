//! What Pingora's cache phases call. They are told in the key what to do: the finding was done before.

use super::Store;
use super::fills::{Filling, State};
use super::growing::Growing;
use super::object::{Body, Object};
use super::reader::Reader;
use super::writer::Writer;
use async_trait::async_trait;
use pingora::{Error, ErrorType, Result};
use pingora_cache::storage::{
    HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta};
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// In a request's key: the answer it gets.
#[derive(Clone)]
pub struct Serve {
    /// The answer.
    pub object: Arc<Object>,
    /// How many bytes of its body are handed on at once at most.
    pub piece: usize,
}

/// In a fill's key: the fill.
#[derive(Clone)]
pub struct FillFor {
    /// Who says how it ends.
    pub filling: Arc<Filling>,
    /// What is about to be stored, once that is decided.
    pub pending: Arc<Mutex<Option<Object>>>,
    /// Bodies up to this many bytes are kept.
    pub max_object: u64,
    /// Whether a part is kept of a body that breaks off.
    pub parts: bool,
}

#[async_trait]
impl Storage for Store {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let Some(Serve { object, piece }) = key.extensions.get::<Serve>() else {
            return Ok(None);
        };
        // Whether it may be used was decided, and its age is written by the proxy: these times are not looked at.
        let now = SystemTime::now();
        let meta = CacheMeta::new(
            now + Duration::from_secs(60),
            now,
            0,
            0,
            object.head.response(true)?,
        );
        let hit: HitHandler = Box::new(Reader::new(object.clone(), *piece, &self.memory));
        Ok(Some((meta, hit)))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        _meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        let fill = key.extensions.get::<FillFor>();
        let pending = fill.and_then(|fill| {
            let mut pending = fill.pending.lock().unwrap_or_else(PoisonError::into_inner);
            Some((fill, pending.take()?))
        });
        let Some((fill, mut object)) = pending else {
            return Error::e_explain(ErrorType::InternalError, "a fill without an answer");
        };
        let growing = Arc::new(Growing::new(&self.memory));
        object.body = Body::Growing(growing.clone());
        if self.disk.is_some() && !object.memory_only {
            object.file = Some(object.id());
        }
        let object = Arc::new(object);
        let began = fill.filling.fill().began();
        let kept = self
            .memory
            .insert(&object, || self.purges.bars(&object, began));
        let writer = Writer::new(
            self,
            fill.filling.fill(),
            object.clone(),
            growing,
            (fill.max_object, fill.parts),
            kept,
        );
        // With its writer there already, who takes it out again should this be broken off.
        if kept {
            self.clear_place(&object).await;
        }
        fill.filling.end(State::Stored(object));
        Ok(Box::new(writer))
    }

    async fn purge(
        &'static self,
        _target: PurgeTarget<'_>,
        _purge_type: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        // Nothing asks for it: purges and eviction are the store's own.
        Ok(PurgeOutcome::NotFound)
    }

    async fn update_meta(
        &'static self,
        _key: &CacheKey,
        _meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<bool> {
        // Nor for this: validation is the proxy's own, which merges all fields that a 304 brings.
        Ok(false)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}
