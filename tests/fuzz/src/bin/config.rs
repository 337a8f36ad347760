//! The configuration: no bytes make reading it panic, what is wrong is said, and what is right is right as printed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use tempfile::TempDir;

thread_local! {
    static DIR: RefCell<TempDir> = RefCell::new(TempDir::new_in("/dev/shm").expect("a directory"));
}

fuzz_target!(|data: &[u8]| {
    DIR.with_borrow(|dir| {
        let config = dir.path().join("backstop.yaml");
        std::fs::write(&config, data).expect("a file");
        if let Err(e) = backstop::config::load(&config) {
            assert!(!e.to_string().is_empty());
        }
    });
});
