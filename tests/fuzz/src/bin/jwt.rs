//! Tokens and keys: no bytes make one panic, and none that was not signed is believed.
#![no_main]

use backstop::policy::jwt::TokenRules;
use backstop::proxy::authenticate::jwt::is_signed;
use backstop::proxy::authenticate::keys::Keys;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use std::time::Duration;

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let text = r#"{"keys":[
            {"kty":"oct","k":"c29tZXRoaW5nIHRoYXQgbm9ib2R5IHdpbGwgZXZlciBndWVzcywgaG9wZWZ1bGx5IQ"},
            {"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        Keys::parse(text.as_bytes()).expect("keys")
    })
}

fuzz_target!(|data: &[u8]| {
    let _ = Keys::parse(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    assert!(!is_signed(text, keys()), "{text}");
    let rules = TokenRules {
        issuer: None,
        audience: Vec::new(),
        leeway: Duration::ZERO,
        identity: "sub".into(),
    };
    let _ = rules.judge(&backstop::policy::jwt::Claims::default(), 0.0);
});
