//! How long JSON is, without writing it.

use serde_json::Value;

/// How long a value is as JSON without spaces; `None` when that is over the limit. Counting ends soon after it.
#[must_use]
pub fn json_bytes(value: &Value, limit: usize) -> Option<usize> {
    let within = |bytes: usize| (bytes <= limit).then_some(bytes);
    // What is inside counts one more for the comma or bracket behind it.
    let bytes = match value {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text_bytes(text),
        Value::Array(list) => list
            .iter()
            .try_fold(1, |bytes, value| {
                within(bytes + json_bytes(value, limit)? + 1)
            })?
            .max(2),
        Value::Object(map) => map
            .iter()
            .try_fold(1, |bytes, (key, value)| {
                within(bytes + text_bytes(key) + 1 + json_bytes(value, limit)? + 1)
            })?
            .max(2),
    };
    within(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_as_long_as_its_text_and_longer_than_any_smaller_limit() {
        for text in [
            "null",
            "false",
            "-1.50e9",
            r#""a\"é\n\u0001""#,
            "[]",
            "[[],{},[0]]",
            "{}",
            r#"{"a":{"b\t":[1,2]},"c":""}"#,
        ] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            let length = value.to_string().len();
            assert_eq!(json_bytes(&value, usize::MAX), Some(length), "{text}");
            assert_eq!(json_bytes(&value, length), Some(length), "{text}");
            assert_eq!(json_bytes(&value, length - 1), None, "{text}");
        }
    }
}
