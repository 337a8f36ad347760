//! Files of users: no bytes make one panic.
#![no_main]

use backstop::proxy::authenticate::basic::Directory;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use tempfile::TempDir;

thread_local! {
    static DIR: RefCell<TempDir> = RefCell::new(TempDir::new_in("/dev/shm").expect("a directory"));
}

fuzz_target!(|data: &[u8]| {
    DIR.with_borrow(|dir| {
        let path = dir.path().join("users");
        std::fs::write(&path, data).expect("a file");
        if let Err(e) = Directory::open(&path) {
            assert!(!e.to_string().is_empty());
        }
    });
});
