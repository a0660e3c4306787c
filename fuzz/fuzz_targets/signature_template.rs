//! Configurations from people: the first line is the template, the rest the body.
#![no_main]

use actionflow_core::signature::{Config, Request, without_secrets};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (template, body) = text.split_once('\n').unwrap_or((text, ""));
    for timestamp in [
        json!(null),
        json!({"header": "x-time"}),
        json!({"json": template}),
    ] {
        let config = json!({
            "algorithm": "sha256",
            "digest": "hex",
            "secret": "a-secret-of-some-length",
            "template": template,
            "data": {"signature": {"header": "x-sign"}, "timestamp": timestamp, "id": {"header": "x-id"}},
        });
        assert!(without_secrets(&config).get("secret").is_none());
        let Ok(config) = Config::parse(&config) else {
            continue;
        };
        let request = Request {
            method: "POST",
            headers: &[("x-sign", "00ff"), ("x-time", "1600000000"), ("x-id", body)],
            body: body.as_bytes(),
            now: 1_600_000_000_000_000,
        };
        assert!(
            config.verify(&request).is_err(),
            "a wrong signature verified"
        );
        let _ = config.request_id(&request);
    }
});
