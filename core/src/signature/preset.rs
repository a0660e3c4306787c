//! Configurations of known senders.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::input::{Error, Place};

/// An object of configurations by name. A test reads each of them.
static PRESETS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("presets.json"))
        .expect("the file is an object, which a test reads")
});

/// What says where a value stands: one of these takes the place of the preset's.
const SOURCES: [&str; 3] = ["header", "headers", "json"];

/// The configuration for a sender, to which only the secret is to be added, and the `url` where the template has `[url]`.
#[must_use]
pub fn preset(provider: &str) -> Option<Value> {
    let (name, value) = PRESETS.get_key_value(provider)?;
    let mut value = value.clone();
    if let Value::Object(map) = &mut value {
        map.insert("preset".to_owned(), Value::String(name.clone()));
    }
    Some(value)
}

/// The names that [`preset()`] knows, in alphabetical order.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.keys().map(String::as_str)
}

/// What to do about a name that is none of them, as a sentence.
#[must_use]
pub fn preset_hint() -> &'static str {
    static HINT: LazyLock<String> = LazyLock::new(|| {
        let names: Vec<&str> = preset_names().collect();
        format!("Use one of: {}.", names.join(", "))
    });
    &HINT
}

/// A configuration with its preset under it, and the preset's name.
pub(super) fn overlaid<'a>(
    json: &'a Value,
    place: &Place,
) -> Result<(Cow<'a, Value>, Option<&'static str>), Error> {
    let name = match json.get("preset") {
        None | Some(Value::Null) => return Ok((Cow::Borrowed(json), None)),
        Some(Value::String(name)) => name,
        Some(other) => return Err(place.key("preset").wrong_type("a string", other)),
    };
    let (name, under) = PRESETS.get_key_value(name).ok_or_else(|| {
        place
            .key("preset")
            .unusable("unknown preset", preset_hint())
    })?;
    let mut merged = under.clone();
    lay_over(&mut merged, json);
    Ok((Cow::Owned(merged), Some(name)))
}

/// Objects are merged, everything else is replaced; null takes away.
fn lay_over(under: &mut Value, over: &Value) {
    let (Value::Object(map), Value::Object(over)) = (&mut *under, over) else {
        *under = over.clone();
        return;
    };
    if SOURCES.iter().any(|key| over.contains_key(*key)) {
        map.retain(|key, _| !SOURCES.contains(&key.as_str()));
    }
    for (key, value) in over {
        match map.get_mut(key) {
            Some(old) => lay_over(old, value),
            None => {
                map.insert(key.clone(), value.clone());
            }
        }
    }
}
