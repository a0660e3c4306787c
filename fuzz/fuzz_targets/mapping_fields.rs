//! Queries and payloads: the first line is a query, the rest JSON. What a mapping gives must pass or fail its check, not panic.
#![no_main]

use actionflow_core::mapping::{Mapping, Request, checked_payload};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (query, payload) = text.split_once('\n').unwrap_or((text, "{}"));
    let Ok(payload) = serde_json::from_str::<Value>(payload) else {
        return;
    };
    let request = Request {
        method: "POST",
        headers: &[],
    };
    for mapping in [
        json!({"kind": "none"}),
        json!({"kind": "fields", "targetUserIds": query}),
        json!({"kind": "fields", "targetUserIds": {"const": "a"}, "variables": {"v": query}, "metadata": query}),
        payload.clone(),
    ] {
        let Ok(mapping) = Mapping::parse(&mapping) else {
            continue;
        };
        if let Ok(mapped) = mapping.apply(&payload, &request, || true)
            && let Ok(checked) = checked_payload(&mapped)
        {
            assert!(!checked.target_user_ids.is_empty());
        }
    }
});
