//! Whether what a mapping gave can start a flow.

use serde_json::Value;

use super::MAX_RESULT_BYTES;
use crate::input::{Error, Kind, Place};
use crate::json_size::json_bytes;
use crate::payload::TriggerPayload;

const SUBJECT: &str = "trigger payload";
/// Below the 128 levels at which readers of JSON give up, with room for what messages put around it.
const MAX_DEPTH: usize = 100;
/// Of digits and of an exponent: far over what a double or a price needs, and far under what `numeric` refuses
/// (131,072 digits before the point, 16,383 after it), which would also be the length of `1e131071` once stored.
const MAX_DIGITS: usize = 1_000;

/// Reads what a mapping gave as one trigger payload that Postgres can store.
///
/// # Errors
/// When it is an array, a key is unknown, a type is wrong, or there is no target; when a text holds U+0000, a number has over
/// 1,000 digits or an exponent beyond ±1,000, values nest deeper than 100 levels, or all of it is over 1 MiB as JSON.
pub fn checked_payload(mapped: &Value) -> Result<TriggerPayload, Error> {
    let root = Place::root(SUBJECT);
    if !mapped.is_object() {
        return Err(root.wrong_type("an object", mapped));
    }
    Trail::Root.check(mapped, 0)?;
    if json_bytes(mapped, MAX_RESULT_BYTES).is_none() {
        return Err(root.error(Kind::TooLarge {
            what: "the payload",
            limit: format!("{MAX_RESULT_BYTES} bytes"),
        }));
    }
    let mut payloads = TriggerPayload::parse_many(mapped)?;
    payloads
        .pop()
        .ok_or_else(|| root.error(Kind::MissingKey("targetUserIds")))
}

/// The way from the root to a value, from which its path is made only when something is wrong there.
#[derive(Clone, Copy)]
enum Trail<'a> {
    Root,
    Key(&'a Trail<'a>, &'a str),
    Index(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    fn place(&self) -> Place {
        match self {
            Self::Root => Place::root(SUBJECT),
            Self::Key(parent, key) => parent.place().key(key),
            Self::Index(parent, index) => parent.place().index(*index),
        }
    }

    fn check(&self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(self.place().error(Kind::TooLarge {
                what: "the nesting",
                limit: format!("{MAX_DEPTH} levels"),
            }));
        }
        match value {
            Value::Null | Value::Bool(_) => Ok(()),
            Value::Number(number) => self.check_number(number.as_str()),
            Value::String(text) => self.check_text(text),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .try_for_each(|(index, value)| Trail::Index(self, index).check(value, depth + 1)),
            Value::Object(map) => map.iter().try_for_each(|(key, value)| {
                let trail = Trail::Key(self, key);
                trail.check_text(key)?;
                trail.check(value, depth + 1)
            }),
        }
    }

    fn check_text(&self, text: &str) -> Result<(), Error> {
        if text.contains('\0') {
            return Err(self.place().unusable(
                "a text holds the character U+0000",
                "Postgres cannot store that character; remove it in the mapping.",
            ));
        }
        Ok(())
    }

    fn check_number(&self, number: &str) -> Result<(), Error> {
        let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let is_small = exponent.parse::<i64>().is_ok_and(|exponent| {
            usize::try_from(exponent.unsigned_abs()).is_ok_and(|e| e <= MAX_DIGITS)
        });
        if digits.len() > MAX_DIGITS || !is_small {
            return Err(self.place().error(Kind::TooLarge {
                what: "a number",
                limit: format!("{MAX_DIGITS} digits"),
            }));
        }
        Ok(())
    }
}
