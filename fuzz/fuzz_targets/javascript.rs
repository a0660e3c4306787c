//! Scripts: whatever one does, it ends, and a good script works after it.
#![no_main]

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use actionflow_core::mapping::{Mapping, Request};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

thread_local! {
    static STARTED: Cell<Option<Instant>> = const { Cell::new(None) };
}

static GOOD: LazyLock<Mapping> = LazyLock::new(|| {
    script("let calls = 0; function map(payload) { return [++calls, payload.id, ({}).x, [1].map(x => x + 1)] }")
        .expect("a good script")
});

fn script(source: &str) -> Option<Mapping> {
    Mapping::parse(&json!({"kind": "javascript", "source": source})).ok()
}

/// A deadline as in a backend. One that the engine does not keep shows as a time-out of the fuzzer.
fn is_over() -> bool {
    STARTED
        .get()
        .is_some_and(|started| started.elapsed() > Duration::from_millis(30))
}

fn start() {
    STARTED.set(Some(Instant::now()));
}

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let request = Request {
        method: "POST",
        headers: &[("accept", "*/*")],
    };
    let payload: Value = json!({"id": "u1", "list": [1, 2.5, null], "text": "é☺"});
    // Inputs are mostly bodies of functions; whole scripts are tried as such.
    for source in [
        source,
        &format!("function map(payload, request) {{ {source}\n}}"),
    ] {
        let Some(mapping) = script(source) else {
            continue;
        };
        start();
        let first = mapping.apply(&payload, &request, is_over);
        start();
        let second = mapping.apply(&payload, &request, is_over);
        // A call that ended by itself knows of no call before it.
        if let (Ok(first), Ok(second)) = (&first, &second) {
            assert_eq!(first, second);
        }
        assert_eq!(
            GOOD.apply(&payload, &request, || false),
            Ok(json!([1, "u1", null, [2]]))
        );
    }
});
