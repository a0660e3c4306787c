//! What went wrong in a script, in words; reading an exception may run the script's own code, so it can fail as well.

use std::cell::Cell;

use rquickjs::{Ctx, Object, Value};

use super::super::Failure;
use super::host::FILE;

pub(super) const NOT_UNICODE: &str = "the result holds a text that is not Unicode";
const MAX_MESSAGE_CHARS: usize = 300;

/// Why a script gave no result.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Occurs when the caller says that it is time to stop.
    Stopped,
    /// Occurs when the memory of the runtime does not suffice.
    OutOfMemory,
    /// Occurs when the script throws null; the engine does so too when there is no memory for an error.
    Null,
    /// Occurs when the script throws, or its result cannot be used.
    Thrown(Failure),
}

impl Trouble {
    pub(super) fn thrown(message: impl Into<String>) -> Self {
        Self::Thrown(Failure::new(message))
    }

    /// Takes the exception that waits in a context.
    pub(super) fn caught(ctx: &Ctx<'_>, was_stopped: &Cell<bool>) -> Self {
        let value = ctx.catch();
        if was_stopped.get() {
            return Self::Stopped;
        }
        match value.as_object() {
            Some(error) if error.is_error() => Self::of_error(ctx, error),
            Some(_) => Self::thrown("an object was thrown that is no Error"),
            None if value.is_null() => Self::Null,
            None => Self::thrown(format!("{} was thrown", plain(&value))),
        }
    }

    fn of_error(ctx: &Ctx<'_>, error: &Object<'_>) -> Self {
        let read = |key: &str| match error.get::<_, Value<'_>>(key) {
            Ok(value) => value.as_string().and_then(|text| text.to_string().ok()),
            Err(_) => {
                ctx.catch();
                None
            }
        };
        let name = read("name").unwrap_or_else(|| "Error".to_owned());
        let message = read("message").unwrap_or_default();
        if name == "InternalError" && message == "out of memory" {
            return Self::OutOfMemory;
        }
        let mut text = match read("stack").as_deref().and_then(line) {
            Some(line) => format!("line {line}: {name}"),
            None => name,
        };
        if !message.is_empty() {
            text.push_str(": ");
            text.push_str(&message);
        }
        Self::thrown(printable(&text))
    }

    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Stopped => Failure {
                was_stopped: true,
                ..Failure::new(
                    "the mapping was stopped, because it ran for too long or was cancelled",
                )
            },
            Self::OutOfMemory => Failure::new("the mapping needs more than its 16 MiB of memory"),
            Self::Null => {
                Failure::new("null was thrown, or the mapping needs more than its 16 MiB of memory")
            }
            Self::Thrown(failure) => failure,
        }
    }
}

/// A value that is no object, as it is written in JavaScript.
fn plain(value: &Value<'_>) -> String {
    if let Some(text) = value.as_string().and_then(|text| text.to_string().ok()) {
        return printable(&format!("{text:?}"));
    }
    if let Some(number) = value.as_number() {
        return number.to_string();
    }
    value.type_name().to_owned()
}

/// The first line of the script that a stack trace names, as `mapping:3:7`.
fn line(stack: &str) -> Option<u32> {
    stack.split(FILE).skip(1).find_map(|rest| {
        let digits = rest.strip_prefix(':')?;
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        digits[..end].parse().ok()
    })
}

/// Short, and without characters that disturb a log or that Postgres cannot store.
fn printable(text: &str) -> String {
    text.chars()
        .take(MAX_MESSAGE_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
