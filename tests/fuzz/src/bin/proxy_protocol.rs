//! The PROXY protocol: whatever comes, nothing is read beyond it, and more bytes change no judgement.
#![no_main]

use backstop::policy::proxy_protocol::{Introduction, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = read(data);
    if let Introduction::Whole { length, .. } = whole {
        assert!(length <= data.len());
        assert_eq!(read(&data[..length]), whole);
    }
    // What was judged before all of it was there holds.
    for cut in 0..data.len().min(300) {
        match read(&data[..cut]) {
            Introduction::Incomplete => {}
            early => assert_eq!(early, whole, "{cut}"),
        }
    }
});
