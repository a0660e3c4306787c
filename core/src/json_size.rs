//! How long JSON is, without writing it.

use serde_json::Value;

/// How long a value is as JSON without spaces. Counting ends soon after the limit; an array or an object over it is
/// `usize::MAX` long, so that what is added to the length must saturate.
#[must_use]
pub fn json_bytes(value: &Value, limit: usize) -> usize {
    let sum = |bytes: usize, more: usize| bytes.saturating_add(more).saturating_add(1);
    match value {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text_bytes(text),
        Value::Array(list) => list
            .iter()
            .try_fold(1_usize, |bytes, value| {
                step(sum(bytes, json_bytes(value, limit)), limit)
            })
            .map_or(usize::MAX, |bytes| bytes.max(2)),
        Value::Object(map) => map
            .iter()
            .try_fold(1_usize, |bytes, (key, value)| {
                let entry = sum(text_bytes(key), json_bytes(value, limit));
                step(sum(bytes, entry), limit)
            })
            .map_or(usize::MAX, |bytes| bytes.max(2)),
    }
}

fn step(bytes: usize, limit: usize) -> Option<usize> {
    (bytes <= limit.saturating_add(1)).then_some(bytes)
}

/// With its quotes and escapes.
fn text_bytes(text: &str) -> usize {
    text.bytes().fold(2, |bytes, byte| {
        bytes
            + match byte {
                b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0C => 2,
                0..0x20 => 6,
                _ => 1,
            }
    })
}
