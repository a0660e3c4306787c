//! `emit_event`: facts about customers that come from outside.

use actionflow_core::payload;
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::error::Error;
use crate::event::{Event, Mode};
use crate::validation::check_size;

/// Events that make somebody's own system send an e-mail with a link.
const TRANSACTIONAL_EMAIL: &[&str] = &[
    "pre-registration",
    "registration",
    "forgot-password",
    "resend-verification",
];

/// Whether messages about this event carry no more of the customer than id and e-mail.
pub(crate) fn is_transactional_email(event: &str) -> bool {
    TRANSACTIONAL_EMAIL.contains(&event)
}

/// Records an event about a customer and starts the flows that it triggers.
///
/// The answer is `{"event_id", "action", "custom_claims", "results"}`. Volatile: it writes.
///
/// # Errors
/// 22004 name or user NULL; 22023 name, user, mode or properties unusable; 54000 properties over 1 MiB.
#[pg_extern(volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn emit_event(
    name: Option<&str>,
    user_id: Option<&str>,
    properties: default!(Option<JsonB>, "'{}'"),
    mode: default!(Option<&str>, "'live'"),
    occurred_at: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<JsonB, ErrorReport> {
    let name = name.ok_or(Error::Null("name"))?;
    let user_id = user_id.ok_or(Error::Null("user_id"))?;
    let mode = Mode::parse(mode.ok_or(Error::Null("mode"))?)?;
    let properties = properties.map_or_else(|| json!({}), |properties| properties.0);
    let id = emit(name, user_id, properties, mode, occurred_at)?;
    Ok(JsonB(
        json!({"event_id": id.to_string(), "action": "allow", "custom_claims": {}, "results": {}}),
    ))
}

fn emit(
    name: &str,
    user_id: &str,
    properties: Value,
    mode: Mode,
    occurred_at: Option<TimestampWithTimeZone>,
) -> Result<i64, Error> {
    check_name(name)?;
    payload::check_user_id(user_id)?;
    check_size("the event's properties", &properties)?;
    let Value::Object(properties) = properties else {
        return Err(Error::PropertiesNotObject);
    };
    if is_transactional_email(name)
        && !properties
            .get("verification_url")
            .is_some_and(is_web_address)
    {
        return Err(Error::NoVerificationUrl(name.to_owned()));
    }
    let mut engine = Engine::new()?;
    let id = engine.next_event_id();
    let occurred_at = occurred_at.unwrap_or(engine.stamp.now);
    engine.emit(Event {
        id,
        name: name.to_owned(),
        user_id: user_id.to_owned(),
        properties,
        mode,
        origin: None,
        depth: 0,
        occurred_at,
        profile: None,
        crossing: None,
    })?;
    engine.finish()?;
    Ok(id)
}

/// The rule of `_check_name` (sql/settings.sql), without a query for every event.
fn check_name(name: &str) -> Result<(), Error> {
    let is_usable = !name.is_empty()
        && name.chars().count() <= 100
        && name.trim() == name
        && !name.chars().any(|c| c.is_control() || c == '/');
    if is_usable {
        Ok(())
    } else {
        Err(Error::EventName(name.chars().take(100).collect()))
    }
}

fn is_web_address(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|url| url.starts_with("https://") || url.starts_with("http://"))
}
