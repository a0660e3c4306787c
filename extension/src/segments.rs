//! Rules as SQL asks about them: what they mean for a table, as a predicate and as what is stored.

use actionflow_core::segment::moment;
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use crate::clock;
use crate::error::Error;
use crate::pg::settings;
use crate::segment::bind::{BoundRule, Columns};
use crate::segment::sql::Writer;
use crate::validation::check_size;

/// A rule over a table, checked: `{"id", "checked", "columns", "predicate", "flip", "flip_filter", "event_flips", "events"}`.
/// `id` is an SQL expression for the customer's id, `now` one for the time, and `events` the relation that has the events;
/// `name` is the segment's that is to have the rule.
#[pg_extern(stable, parallel_unsafe)]
fn _bind_rule(
    rule: Option<JsonB>,
    relation: pg_sys::Oid,
    name: Option<&str>,
    id: &str,
    now: &str,
    events: &str,
) -> Result<JsonB, ErrorReport> {
    let rule = rule.ok_or(Error::Null("rule"))?;
    let columns = Columns::of(relation)?;
    let (bound, checked) = check(&rule.0, &columns, name)?;
    let writer = Writer {
        rule: &bound,
        id,
        now,
        events,
    };
    Ok(JsonB(describe(&writer, checked)?))
}

fn check(rule: &Value, columns: &Columns, name: Option<&str>) -> Result<(BoundRule, Value), Error> {
    check_size("the segment rule", rule)?;
    settings::fixed(|| BoundRule::check(rule, columns, name))
}

fn describe(writer: &Writer<'_>, checked: Value) -> Result<Value, Error> {
    let bound = writer.rule;
    let flip = writer.flip()?;
    let events: Vec<Value> = bound
        .events()
        .map(|event| json!({"name": event.name, "window_us": event.within_us}))
        .collect();
    Ok(json!({
        "id": writer.id,
        "checked": checked,
        "columns": bound.columns(),
        "predicate": writer.predicate()?,
        "flip": flip.as_ref().map(|(moment, _)| moment),
        "flip_filter": flip.as_ref().map(|(_, filter)| filter),
        "event_flips": writer.event_flips()?,
        "events": events,
    }))
}

/// A date or time that a JSON string holds; NULL when it holds none. Immutable: without an offset it is UTC.
#[pg_extern(immutable, parallel_safe)]
fn _json_moment(value: Option<JsonB>) -> Option<TimestampWithTimeZone> {
    let microseconds = moment::parse(value?.0.as_str()?)?;
    Some(clock::from_unix_microseconds(microseconds))
}
