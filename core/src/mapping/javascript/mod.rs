//! Mappings in JavaScript, run by `QuickJS` in this thread.
//!
//! A script sees its two arguments and the language: no files, network, timers, clock or chance, and nothing that makes code
//! from text. Its top level runs anew for every call, and the objects of the language are frozen, so that no call knows of
//! another. Time is bounded by the caller, memory and stack are bounded here ([`host`]).

mod failure;
mod host;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Failure, MAX_RESULT_BYTES, Request};
use crate::input::{Error, Kind, Object, Place};

const MAX_SOURCE_BYTES: usize = 64 << 10;
const SHAPE: &str = "Write a script that defines a function map(payload, request), which returns the trigger payload.";

/// A mapping of kind `javascript`, of which the syntax has been checked.
#[derive(Debug, Clone)]
pub(super) struct Script {
    source: Arc<str>,
}

impl Script {
    pub(super) fn parse(place: Place, json: &Value) -> Result<Self, Error> {
        let object = Object::read(place, json, &["kind", "source"])?;
        let (source, place) = object.require("source")?;
        let source = source
            .as_str()
            .ok_or_else(|| place.wrong_type("a string", source))?;
        if source.len() > MAX_SOURCE_BYTES {
            return Err(place.error(Kind::TooLarge {
                what: "the source",
                limit: format!("{MAX_SOURCE_BYTES} bytes"),
            }));
        }
        check_text(source).map_err(|message| place.unusable(message, SHAPE))?;
        let source = Arc::from(source);
        host::check(&source).map_err(|failure| place.unusable(failure.message, SHAPE))?;
        Ok(Self { source })
    }

    pub(super) fn apply(
        &self,
        payload: &Value,
        request: &Request<'_>,
        is_interrupted: fn() -> bool,
    ) -> Result<Value, Failure> {
        let arguments = [to_json(payload)?, to_json(&request_object(request))?];
        let text = host::call(&self.source, &arguments, is_interrupted)?;
        if text.len() > MAX_RESULT_BYTES {
            return Err(Failure::too_large());
        }
        serde_json::from_str(&text).map_err(|error| {
            // What JSON.stringify writes is JSON; it can only be too deep, or hold halves of characters.
            Failure::new(if error.to_string().starts_with("recursion limit") {
                "the result nests too deeply"
            } else {
                "the result holds a text that is not Unicode: half of a surrogate pair"
            })
        })
    }
}

/// What the script is checked as and what it runs as differ in these comments of old browsers, which could hide a brace.
fn check_text(source: &str) -> Result<(), &'static str> {
    if source.contains('\0') {
        return Err("the source holds the character U+0000");
    }
    if source.contains("<!--") || source.contains("-->") {
        return Err("the source holds \"<!--\" or \"-->\"; write \"<\" + \"!--\" for such a text");
    }
    Ok(())
}

fn to_json(value: &Value) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|_| Failure::new("the payload is no JSON"))
}

/// Header names in lower case; what repeats is joined as HTTP says.
fn request_object(request: &Request<'_>) -> Value {
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in request.headers {
        match headers.entry(name.to_ascii_lowercase()) {
            serde_json::map::Entry::Vacant(entry) => {
                entry.insert(Value::from(*value));
            }
            serde_json::map::Entry::Occupied(mut entry) => {
                if let Value::String(text) = entry.get_mut() {
                    text.push_str(", ");
                    text.push_str(value);
                }
            }
        }
    }
    let mut object = Map::new();
    object.insert("method".to_owned(), Value::from(request.method));
    object.insert("headers".to_owned(), Value::Object(headers));
    Value::Object(object)
}
