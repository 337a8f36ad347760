//! Memory that bodies are read into, used again and again: fresh memory would have to be cleared each time.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Buffers that a thread keeps for later.
const KEPT: usize = 8;
/// Larger ones are not kept.
const MOST: usize = 256 * 1024;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// So many bytes, with whatever is in them.
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// `len` bytes.
    pub fn of(len: usize) -> Self {
        let fits = |memory: &Vec<u8>| memory.len() >= len && memory.len() / 2 <= len;
        let used = FREE.with_borrow_mut(|free| {
            let place = free.iter().position(fits)?;
            Some(free.swap_remove(place))
        });
        let memory = used.unwrap_or_else(|| vec![0; len]);
        Buffer { memory, len }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if memory.len() > MOST {
            return;
        }
        // A thread that ends keeps nothing.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() == KEPT {
                free.remove(0);
            }
            free.push(memory);
        });
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(..self.len).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_where_it_is_about_as_large() {
        let place = |buffer: &Buffer| buffer.memory.as_ptr();
        let mut first = Buffer::of(1000);
        first[999] = 7;
        let was = place(&first);
        drop(first);
        let small = Buffer::of(100);
        assert_ne!(place(&small), was);
        let second = Buffer::of(900);
        assert_eq!((place(&second), second.len()), (was, 900));
        assert_ne!(place(&Buffer::of(900)), was);
        drop(second);
        for _ in 0..2 * KEPT {
            let all: Vec<Buffer> = (0..2 * KEPT).map(|_| Buffer::of(2000)).collect();
            drop(all);
            assert!(FREE.with_borrow(|free| free.len()) <= KEPT);
        }
    }
}
