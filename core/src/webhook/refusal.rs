//! Why a request is refused: what the sender is told, and what the owner can read.

use std::fmt::Display;

use serde_json::{Value, json};

use crate::input;
use crate::mapping::Failure;

/// The reasons that are kept are for people, in bytes.
const MAX_REASON_BYTES: usize = 500;
/// A field's name may be the sender's, and would come back several times as long for its escapes; in bytes.
const MAX_FIELD_BYTES: usize = 100;

/// A request that starts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// An HTTP status.
    pub status: u16,
    /// For the sender, who may be anybody.
    pub message: &'static str,
    /// The part of the trigger payload that is at fault, such as `targetUserIds[0]`.
    pub field: Option<String>,
    /// For the owner.
    pub reason: String,
}

impl Refusal {
    /// A refusal whose reason is what the sender is told.
    #[must_use]
    pub fn new(status: u16, message: &'static str) -> Self {
        Self {
            status,
            message,
            field: None,
            reason: message.to_owned(),
        }
    }

    /// The same with more for the owner.
    #[must_use]
    pub fn because(self, cause: impl Display) -> Self {
        let mut reason = format!("{}: {cause}", self.message);
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        // Some texts come from the sender, and Postgres has no place for this character.
        reason.retain(|c| c != '\0');
        Self { reason, ..self }
    }

    /// The same with the part of the payload that is at fault, as a path that may begin with `$.`; its first 100 bytes are kept.
    #[must_use]
    pub fn in_field(self, path: &str) -> Self {
        let field = path.strip_prefix("$.").or(path.strip_prefix('$'));
        let field = field.unwrap_or(path);
        let field = &field[..field.floor_char_boundary(MAX_FIELD_BYTES)];
        let field = field.replace('\0', "");
        Self {
            field: Some(field).filter(|field| !field.is_empty()),
            ..self
        }
    }

    /// The answer's body: `{"error": {"code", "message", "field"?}}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut error = json!({"code": code(self.status), "message": self.message});
        if let Some(field) = &self.field {
            error["field"] = json!(field);
        }
        json!({"error": error})
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let refusal = match failure.was_stopped {
            // Many senders never repeat what a 422 has refused, and the next time may be fast enough.
            true => Self::new(503, "the mapping took too long"),
            false => Self::new(422, "the mapping of this webhook failed"),
        };
        let refusal = refusal.because(&failure.message);
        match failure.field {
            Some(field) => refusal.in_field(&field),
            None => refusal,
        }
    }
}

/// What becomes of a mapped payload that cannot start anything.
#[must_use]
pub fn unusable(error: &input::Error) -> Refusal {
    let path = match &error.kind {
        input::Kind::MissingKey(key) => format!("{}.{key}", error.path),
        _ => error.path.clone(),
    };
    Refusal::new(422, "the mapped payload is not usable")
        .because(&error.kind)
        .in_field(&path)
}

fn code(status: u16) -> &'static str {
    match status {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        409 => "disabled",
        413 => "payload_too_large",
        415 => "unsupported_media_type",
        503 => "unavailable",
        _ => "unprocessable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_told_the_field_and_not_the_reason() {
        let failure = Failure::at("$.variables.amount", "line 3: secret\0 is not defined");
        let refusal = Refusal::from(failure);
        assert_eq!(
            refusal.to_json(),
            json!({"error": {"code": "unprocessable", "message": "the mapping of this webhook failed", "field": "variables.amount"}})
        );
        assert_eq!(
            refusal.reason,
            "the mapping of this webhook failed: line 3: secret is not defined"
        );
    }

    #[test]
    fn a_mapping_that_took_too_long_may_be_asked_again() {
        let failure = Failure {
            was_stopped: true,
            ..Failure::new("the mapping was stopped")
        };
        let refusal = Refusal::from(failure);
        assert_eq!(refusal.status, 503);
        assert_eq!(
            refusal.to_json(),
            json!({"error": {"code": "unavailable", "message": "the mapping took too long"}})
        );
        assert_eq!(
            refusal.reason,
            "the mapping took too long: the mapping was stopped"
        );
    }

    #[test]
    fn what_the_sender_named_is_not_repeated_at_length() {
        let key = "\u{1}é".repeat(200_000);
        let body = json!({"targetUserIds": ["a"], "variables": {"n": {key.clone(): "\0"}}});
        let error = crate::mapping::checked_payload(&body).expect_err("U+0000");
        let unknown = crate::mapping::checked_payload(&json!({key: 1})).expect_err("a key");
        for refusal in [unusable(&error), unusable(&unknown)] {
            assert!(refusal.to_json().to_string().len() < 1_000);
            assert!(refusal.reason.len() <= MAX_REASON_BYTES);
        }
        let field = unusable(&error).field.expect("a field");
        assert!(field.starts_with("variables.n[\""), "{field}");
        assert!((MAX_FIELD_BYTES - 3..=MAX_FIELD_BYTES).contains(&field.len()));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let refusal = Refusal::new(401, "no").because("é".repeat(400));
        assert!(refusal.reason.len() <= MAX_REASON_BYTES);
        assert!(refusal.reason.ends_with('é'));
    }
}
