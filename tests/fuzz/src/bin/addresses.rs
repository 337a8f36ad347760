//! Files of addresses: no bytes make one panic, and one that is taken is taken again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use tempfile::TempDir;

thread_local! {
    static DIR: RefCell<TempDir> = RefCell::new(TempDir::new_in("/dev/shm").expect("a directory"));
}

const YAML: &str = "listeners: [{ address: 127.0.0.1:8080 }]\n---\nroutes: [{ respond: { status: 204 }, deny: [{ file: list }] }]\n";

fuzz_target!(|data: &[u8]| {
    DIR.with_borrow(|dir| {
        let config = dir.path().join("backstop.yaml");
        if !config.exists() {
            std::fs::write(&config, YAML).expect("a file");
        }
        std::fs::write(dir.path().join("list"), data).expect("a file");
        match backstop::config::load(&config) {
            Ok(loaded) => {
                let access = &loaded.routing.routes[0].access;
                let _ = access.judge(Some([192, 0, 2, 7].into()));
            }
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    });
});
