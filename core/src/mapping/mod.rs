//! Mappings: how what a sender posts becomes a trigger payload.
//!
//! A mapping is JSON with a `kind`. `none` takes the payload as it is; `fields` finds each part by a `JSONPath` query
//! (RFC 9535) or a constant; `javascript` calls a function `map(payload, request)`. Whatever a mapping gives is checked by
//! [`checked_payload`] before anything starts.

mod check;
mod fields;
#[cfg(feature = "javascript")]
mod javascript;
mod query;
mod wanted;

use serde_json::Value;

pub use check::checked_payload;
pub use wanted::Wanted;

use crate::input::{Error, Object, Place};
use fields::Fields;

const SUBJECT: &str = "mapping";
const KINDS: &str = "The kinds are none, fields and javascript.";
/// What a mapping gives at most, as JSON; the same as the largest request.
pub(crate) const MAX_RESULT_BYTES: usize = 1 << 20;

/// A mapping that has been parsed and compiled; [`Mapping::apply`] may be called any number of times.
/// The default takes the payload as it is.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    kind: Kind,
}

#[derive(Debug, Clone, Default)]
enum Kind {
    #[default]
    None,
    Fields(Box<Fields>),
    #[cfg(feature = "javascript")]
    JavaScript(javascript::Script),
}

/// What a mapping in JavaScript may know of the request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// As sent, such as `POST`.
    pub method: &'a str,
    /// Names in any case and values, without those that carry credentials.
    pub headers: &'a [(&'a str, &'a str)],
}

/// Why a mapping gave no result; for the people who own the mapping, and for whoever sent the payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Where in the mapping's result, as a JSON path such as `$.targetUserIds`; none when the mapping failed as a whole.
    pub field: Option<String>,
    /// What went wrong, as a clause; the same for the same mapping and payload. JavaScript errors name their line.
    pub message: String,
    /// Whether it was stopped for its time: with another machine or at another moment there may be a result.
    pub(crate) was_stopped: bool,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            field: None,
            message: message.into(),
            was_stopped: false,
        }
    }

    pub(crate) fn at(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            message: message.into(),
            was_stopped: false,
        }
    }

    pub(crate) fn too_large() -> Self {
        Self::new(format!(
            "the result is over the limit of {MAX_RESULT_BYTES} bytes"
        ))
    }
}

impl Mapping {
    /// Parses a mapping, and compiles its queries or its source.
    ///
    /// # Errors
    /// When the kind or a key is unknown, a query is no `JSONPath` or could cost too much, or the source is over 64 KiB, has a
    /// syntax error (the message names the line).
    pub fn parse(json: &Value) -> Result<Self, Error> {
        let place = Place::root(SUBJECT);
        let map = json
            .as_object()
            .ok_or_else(|| place.wrong_type("an object", json))?;
        let kind = match map.get("kind") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(Value::Null) | None => {
                return Err(place.error(crate::input::Kind::MissingKey("kind")));
            }
            Some(other) => return Err(place.key("kind").wrong_type("a string", other)),
        };
        let kind = match kind {
            "none" => {
                Object::read(place, json, &["kind"])?;
                Kind::None
            }
            "fields" => Kind::Fields(Box::new(Fields::parse(place, json)?)),
            "javascript" => parse_script(place, json)?,
            other => {
                return Err(place
                    .key("kind")
                    .unusable(format!("there is no kind \"{other}\""), KINDS));
            }
        };
        Ok(Self { kind })
    }

    /// What of a payload the mapping can look at.
    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        match &self.kind {
            Kind::Fields(fields) => fields.wanted(),
            _ => &Wanted::All,
        }
    }

    /// Whether the request makes a difference to the mapping.
    #[must_use]
    pub fn reads_request(&self) -> bool {
        !matches!(self.kind, Kind::None | Kind::Fields(_))
    }

    /// What the mapping makes of a payload; not checked yet ([`checked_payload`] does that).
    ///
    /// `is_interrupted` is called now and then while JavaScript runs. It says whether to stop, must not unwind or jump, and
    /// decides alone how long a mapping may take.
    ///
    /// # Errors
    /// When a query for the targets finds nothing, or JavaScript throws, is interrupted, exceeds its memory or stack, or
    /// gives what JSON cannot hold; when the result is over 1 MiB.
    pub fn apply(
        &self,
        payload: &Value,
        request: &Request<'_>,
        is_interrupted: fn() -> bool,
    ) -> Result<Value, Failure> {
        #[cfg(not(feature = "javascript"))]
        let _ = (request, is_interrupted);
        match &self.kind {
            Kind::None => Ok(payload.clone()),
            Kind::Fields(fields) => fields.apply(payload),
            #[cfg(feature = "javascript")]
            Kind::JavaScript(script) => script.apply(payload, request, is_interrupted),
        }
    }
}

#[cfg(feature = "javascript")]
fn parse_script(place: Place, json: &Value) -> Result<Kind, Error> {
    Ok(Kind::JavaScript(javascript::Script::parse(place, json)?))
}

#[cfg(not(feature = "javascript"))]
fn parse_script(place: Place, _: &Value) -> Result<Kind, Error> {
    Err(place.error(crate::input::Kind::Unsupported("JavaScript".to_owned())))
}
