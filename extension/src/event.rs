//! Events on their way through the engine.

use pgrx::datum::TimestampWithTimeZone;
use serde_json::{Map, Value};

use crate::error::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Live,
    Test,
}

impl Mode {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "live" => Ok(Self::Live),
            "test" => Ok(Self::Test),
            other => Err(Error::UnknownMode(other.to_owned())),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// A fact about a customer that is on its way to whatever it triggers.
pub(crate) struct Event {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) user_id: String,
    pub(crate) properties: Map<String, Value>,
    pub(crate) mode: Mode,
    /// The flow and run that emitted it.
    pub(crate) origin: Option<(i64, i64)>,
    /// How many runs stand between this event and one from outside.
    pub(crate) depth: i32,
    pub(crate) occurred_at: TimestampWithTimeZone,
    /// The customer as it was, for events after which it cannot be read any more.
    pub(crate) profile: Option<Value>,
    /// For a segment crossing: the segment, and whether it is an exit.
    pub(crate) crossing: Option<(i64, bool)>,
}

/// Where a chain of events and runs has come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause {
    /// The flow and run that emitted the event behind it.
    pub(crate) origin: Option<(i64, i64)>,
    pub(crate) depth: i32,
}

impl Cause {
    /// Something that no flow has done.
    pub(crate) const OUTSIDE: Self = Self {
        origin: None,
        depth: 0,
    };
}
