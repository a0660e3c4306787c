//! Header values that claim to be signatures: parsing must not panic, and none of them may verify.
#![no_main]

use std::sync::LazyLock;

use actionflow_core::signature::{Config, Request};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// Each with the header that it reads and a secret; the providers differ in what their header looks like.
static CONFIGS: LazyLock<Vec<(&str, Config)>> = LazyLock::new(|| {
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    [
        (
            "stripe-signature",
            json!({"preset": "stripe", "secret": "c2VjcmV0LXNlY3JldA"}),
        ),
        (
            "webhook-signature",
            json!({"preset": "standard-webhooks", "secret": key}),
        ),
        (
            "x-hub-signature-256",
            json!({"preset": "github", "secret": "c2VjcmV0LXNlY3JldA"}),
        ),
        (
            "recurly-signature",
            json!({"preset": "recurly", "secret": "c2VjcmV0LXNlY3JldA"}),
        ),
    ]
    .into_iter()
    .map(|(header, config)| {
        (
            header,
            Config::parse(&config).expect("a good configuration"),
        )
    })
    .collect()
});

fuzz_target!(|data: &[u8]| {
    let Ok(value) = std::str::from_utf8(data) else {
        return;
    };
    for (header, config) in CONFIGS.iter() {
        let headers = [
            (*header, value),
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", "1600000000"),
        ];
        let request = Request {
            method: "POST",
            headers: &headers,
            body: b"{\"id\": \"evt_1\"}",
            now: 1_600_000_000_000_000,
        };
        assert!(config.verify(&request).is_err(), "{header} verified");
        let _ = config.request_id(&request);
    }
});
