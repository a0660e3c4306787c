//! `emit_event`: facts about customers that come from outside.

use actionflow_core::payload;
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::catalog;
use crate::clock;
use crate::engine::Engine;
use crate::enrich::ask;
use crate::error::Error;
use crate::event::{Event, Mode};
use crate::pg::{sequence, transaction};
use crate::validation::check_size;

/// Events that make somebody's own system send an e-mail with a link.
const TRANSACTIONAL_EMAIL: &[&str] = &[
    "pre-registration",
    "registration",
    "forgot-password",
    "resend-verification",
];

/// The property with the link of such an e-mail, which gives access to whoever has it.
pub(crate) const VERIFICATION_URL: &str = "verification_url";

/// Whether messages about this event carry no more of the customer than id and e-mail.
pub(crate) fn is_transactional_email(event: &str) -> bool {
    TRANSACTIONAL_EMAIL.contains(&event)
}

/// Records an event about a customer and starts the flows that it triggers.
///
/// Flows that begin with enrich actions are asked first, and the transaction waits for the answers. The answer is
/// `{"event_id", "action", "custom_claims", "results"}`, and `user_message` if there is one. Volatile: it writes.
///
/// # Errors
/// 22004 name or user NULL; 22023 name, user, mode or properties unusable; 54000 properties over 1 MiB; 38000 an enrich action
/// failed whose failure is an error; 55000 an enrich action without the library preloaded; 25006 in a
/// read-only transaction, as all are on a standby.
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
    Ok(JsonB(emit(name, user_id, properties, mode, occurred_at)?))
}

/// Emits an event and returns the answer to whoever emits it.
pub(crate) fn emit(
    name: &str,
    user_id: &str,
    properties: Value,
    mode: Mode,
    occurred_at: Option<TimestampWithTimeZone>,
) -> Result<Value, Error> {
    if transaction::is_read_only() {
        return Err(Error::ReadOnly);
    }
    check_name(name)?;
    payload::check_user_id(user_id)?;
    check_size("the event's properties", &properties)?;
    let Value::Object(properties) = properties else {
        return Err(Error::PropertiesNotObject);
    };
    if is_transactional_email(name) {
        let url = properties.get(VERIFICATION_URL).and_then(Value::as_str);
        if !url.is_some_and(payload::is_web_address) {
            return Err(Error::NoVerificationUrl(name.to_owned()));
        }
    }
    let catalog = catalog::current()?;
    let event = Event {
        id: sequence::next_value(catalog.sequences.event),
        name: name.to_owned(),
        user_id: user_id.to_owned(),
        properties,
        mode,
        origin: None,
        depth: 0,
        occurred_at: occurred_at.map_or_else(clock::now, Ok)?,
        profile: None,
        crossing: None,
    };
    // Before anything is written or locked: it may take its time.
    let (answer, asked) = ask::ask(&catalog, &event)?;
    let answer = answer.to_json(event.id);
    let mut engine = Engine::new()?;
    engine.emit_asked(event, asked)?;
    engine.finish()?;
    Ok(answer)
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
