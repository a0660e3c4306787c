//! What the worker tells a caller who waits: the endpoint's answer, or why there is none.

use serde_json::{Map, Value, json};

use super::answer::{Answer, AnswerError, cut};

/// The end of a request to an endpoint, as the caller receives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The endpoint's answer, checked.
    Answer(Answer),
    /// There is no usable answer.
    Failure(Failure),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// The same in words, for the log; it never repeats a body or a secret.
    pub message: String,
}

/// What went wrong, by who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The time for the action ran out.
    Timeout,
    /// No connection: name resolution, TCP or TLS failed.
    Connect,
    /// The connection broke, or what came back is not HTTP.
    Broken,
    /// The address guard refused every address of the host.
    AddressRefused,
    /// The endpoint answered another status than 200.
    Status,
    /// The endpoint answered 200 and something that is not a usable answer.
    Answer,
    /// The request could not be built from the endpoint's settings.
    Unsendable,
    /// The request is over the limit of size.
    TooLarge,
    /// The worker that had taken the request is gone.
    WorkerLost,
    /// No worker listens.
    NoWorker,
    /// Every place for requests stayed taken until the deadline.
    Busy,
    /// The endpoint failed so often in a row that it is not asked for a while.
    BreakerOpen,
    /// The endpoint is asked as often at once as it allows.
    TooManyInFlight,
    /// The endpoint is disabled.
    Disabled,
    /// A defect of actionflow.
    Internal,
}

/// Why a JSON is not a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Occurs when it is neither an answer nor a failure.
    #[error("a reply holds either an answer or a failure")]
    Shape,
    /// Occurs when the failure's kind is unknown.
    #[error("a failure has one of the known kinds")]
    Kind,
    /// Occurs when the answer cannot be used.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl Reply {
    /// The JSON form: `{"answer": {…}}` or `{"failure": {"kind": "timeout", "message": "…"}}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Answer(answer) => json!({ "answer": answer.to_json() }),
            Self::Failure(Failure { kind, message }) => {
                json!({ "failure": { "kind": kind.as_str(), "message": message } })
            }
        }
    }

    /// Reads the JSON form. A message is cut and cleaned as an answer's texts are, because it is stored as they are.
    ///
    /// # Errors
    /// When it is not a reply, or its answer breaks a rule of [`Answer::from_json`].
    pub fn from_json(json: &Value) -> Result<Self, ReplyError> {
        let object = json
            .as_object()
            .filter(|object| object.len() == 1)
            .ok_or(ReplyError::Shape)?;
        if let Some(answer) = object.get("answer") {
            return Ok(Self::Answer(Answer::from_json(answer)?));
        }
        let failure = object
            .get("failure")
            .and_then(Value::as_object)
            .ok_or(ReplyError::Shape)?;
        Ok(Self::Failure(Failure {
            kind: text(failure, "kind")
                .and_then(FailureKind::parse)
                .ok_or(ReplyError::Kind)?,
            message: cut(text(failure, "message").ok_or(ReplyError::Shape)?)
                .replace('\0', "\u{fffd}"),
        }))
    }
}

impl FailureKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::Timeout,
        Self::Connect,
        Self::Broken,
        Self::AddressRefused,
        Self::Status,
        Self::Answer,
        Self::Unsendable,
        Self::TooLarge,
        Self::WorkerLost,
        Self::NoWorker,
        Self::Busy,
        Self::BreakerOpen,
        Self::TooManyInFlight,
        Self::Disabled,
        Self::Internal,
    ];

    /// The name, as SQL and logs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::AddressRefused => "address_refused",
            Self::Status => "status",
            Self::Answer => "answer",
            Self::Unsendable => "unsendable",
            Self::TooLarge => "too_large",
            Self::WorkerLost => "worker_lost",
            Self::NoWorker => "no_worker",
            Self::Busy => "busy",
            Self::BreakerOpen => "breaker_open",
            Self::TooManyInFlight => "too_many_in_flight",
            Self::Disabled => "disabled",
            Self::Internal => "internal",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether the endpoint is to blame, so that it counts for its breaker.
    #[must_use]
    pub const fn is_endpoints_fault(self) -> bool {
        match self {
            Self::Timeout
            | Self::Connect
            | Self::Broken
            | Self::AddressRefused
            | Self::Status
            | Self::Answer => true,
            Self::Unsendable
            | Self::TooLarge
            | Self::WorkerLost
            | Self::NoWorker
            | Self::Busy
            | Self::BreakerOpen
            | Self::TooManyInFlight
            | Self::Disabled
            | Self::Internal => false,
        }
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::answer::Decision;

    #[test]
    fn a_reply_has_one_of_two_forms() {
        let answer = Answer {
            action: Decision::Challenge,
            data: Map::new(),
            custom_claims: Map::new(),
            reason: Some("new device".to_owned()),
            user_message: None,
        };
        let replies = [
            (
                Reply::Answer(answer),
                json!({"answer": {"action": "challenge", "data": {}, "custom_claims": {}, "reason": "new device"}}),
            ),
            (
                Reply::Failure(Failure {
                    kind: FailureKind::Status,
                    message: "the endpoint answered 503".to_owned(),
                }),
                json!({"failure": {"kind": "status", "message": "the endpoint answered 503"}}),
            ),
        ];
        for (reply, json) in replies {
            assert_eq!(reply.to_json(), json);
            assert_eq!(Reply::from_json(&json), Ok(reply));
        }
    }

    #[test]
    fn what_is_not_a_reply_is_refused() {
        let cases = [
            (json!(null), ReplyError::Shape),
            (json!({}), ReplyError::Shape),
            (json!({"answer": {}, "failure": {}}), ReplyError::Shape),
            (json!({"other": {}}), ReplyError::Shape),
            (json!({"failure": {"kind": "timeout"}}), ReplyError::Shape),
            (
                json!({"failure": {"kind": "Timeout", "message": ""}}),
                ReplyError::Kind,
            ),
            (json!({"failure": {"message": ""}}), ReplyError::Kind),
            (
                json!({"answer": []}),
                ReplyError::Answer(AnswerError::NotAnObject),
            ),
        ];
        for (json, error) in cases {
            assert_eq!(Reply::from_json(&json), Err(error), "{json}");
        }
    }

    #[test]
    fn a_message_is_made_storable() {
        let json =
            json!({"failure": {"kind": "broken", "message": format!("a\0{}", "é".repeat(2000))}});
        let Ok(Reply::Failure(failure)) = Reply::from_json(&json) else {
            panic!("a failure");
        };
        assert_eq!(failure.message.chars().count(), 1024);
        assert!(failure.message.starts_with("a\u{fffd}é"));
    }

    #[test]
    fn every_kind_has_one_name() {
        for kind in FailureKind::ALL {
            assert_eq!(FailureKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(FailureKind::parse("TIMEOUT"), None);
    }

    #[test]
    fn the_breaker_counts_what_the_endpoint_can_change() {
        let counted: Vec<_> = FailureKind::ALL
            .into_iter()
            .filter(|kind| kind.is_endpoints_fault())
            .map(FailureKind::as_str)
            .collect();
        assert_eq!(
            counted,
            [
                "timeout",
                "connect",
                "broken",
                "address_refused",
                "status",
                "answer"
            ]
        );
    }
}
