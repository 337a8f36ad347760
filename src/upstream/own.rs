//! A worker's own handle of what all workers share.
//!
//! Who clones an `Arc` counts that in memory which all that hold one share. Where each request does so on every processor, each
//! waits for the others' caches to hand that memory over. A worker clones handles of its own.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A handle that is counted apart from those of other workers.
pub struct Own<T: ?Sized>(Arc<Arc<T>>);

impl<T: ?Sized> Own<T> {
    /// One that is counted apart from all others.
    pub fn new(shared: Arc<T>) -> Self {
        Own(Arc::new(shared))
    }

    /// The same thing, counted apart.
    pub fn apart(&self) -> Self {
        Own::new(self.shared().clone())
    }

    /// What all share.
    pub fn shared(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T: ?Sized> Clone for Own<T> {
    fn clone(&self) -> Self {
        Own(self.0.clone())
    }
}

impl<T: ?Sized> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Own<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_counted_once_for_each_worker() {
        let shared = Arc::new(7);
        let one = Own::new(shared.clone());
        let other = one.apart();
        let clones: Vec<_> = (0..10).map(|_| (one.clone(), other.clone())).collect();
        assert_eq!(Arc::strong_count(&shared), 3);
        assert!(
            clones
                .iter()
                .all(|(a, b)| Arc::ptr_eq(a.shared(), b.shared()) && **a == 7)
        );
        drop((one, other, clones));
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}
