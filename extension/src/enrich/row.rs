//! `enrich_before_insert`: a row asks before it is inserted, and is refused, left out or filled in by the answer.
//!
//! The trigger function runs with the rights of whoever inserts, because it evaluates what belongs to the table: its row type
//! and the checks of that. Only the event itself is emitted with the extension's.

use actionflow_core::row_options::{OnDecision, RowOptions};
use pgrx::JsonB;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::event::Mode;
use crate::events;
use crate::pg::identity;
use crate::pg::row_trigger::RowCall;

/// Emits an event for a row before it is inserted, and does with it what the answer says.
#[pg_extern(sql = "create function actionflow._enrich_row() returns trigger
language c volatile parallel unsafe
as 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
pub(crate) fn _enrich_row(fcinfo: pg_sys::FunctionCallInfo) -> Result<i64, ErrorReport> {
    let call = RowCall::new(fcinfo).ok_or_else(|| {
        Error::Internal("called in another way than by a BEFORE INSERT trigger".to_owned())
    })?;
    Ok(before_insert(&call)?)
}

fn before_insert(call: &RowCall) -> Result<i64, Error> {
    let broken = || Error::Internal("the trigger's arguments cannot be read".to_owned());
    let arguments = call.arguments();
    let [event, options] = arguments.as_slice() else {
        return Err(broken());
    };
    let options: Value = serde_json::from_str(options).map_err(|_| broken())?;
    let options = RowOptions::parse(&options)?;
    let owner = call.function_owner().ok_or_else(broken)?;
    let row = row_as_json(call)?;
    let user_id = match row.get(&options.user_id) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => return Err(Error::NoUserId(options.user_id)),
        Some(value) => value.to_string(),
    };
    let properties = Value::Object(options.properties_of(row));
    let answer = identity::run_as_definer(owner, || {
        events::emit(event, &user_id, properties, Mode::Live, None)
    })?;
    match options.on(answer["action"].as_str().unwrap_or_default()) {
        OnDecision::Insert => fill(call, options.filled_in(&answer)),
        OnDecision::Skip => Ok(0),
        OnDecision::Refuse => Err(Error::Refused(
            answer["user_message"].as_str().map(str::to_owned),
        )),
    }
}

fn row_as_json(call: &RowCall) -> Result<Map<String, Value>, Error> {
    // Neither prepared, for every table has a type of its own, nor by get_one, which gives the transaction a number.
    let row = Spi::connect(|client| {
        let table = client.select("select pg_catalog.to_jsonb($1)", Some(1), &[call.row()])?;
        table.first().get_one::<JsonB>()
    })?;
    match row {
        Some(JsonB(Value::Object(map))) => Ok(map),
        _ => Err(Error::Internal("a row is no object".to_owned())),
    }
}

fn fill(call: &RowCall, values: Map<String, Value>) -> Result<i64, Error> {
    if values.is_empty() {
        return Ok(call.unchanged());
    }
    Spi::connect(|client| {
        let values: DatumWithOid<'_> = JsonB(Value::Object(values)).into();
        let table = client.select(
            "select pg_catalog.jsonb_populate_record($1, $2)",
            Some(1),
            &[call.row(), values],
        )?;
        let row = table
            .first()
            .get_datum_by_ordinal(1)?
            .ok_or_else(|| Error::Internal("a filled row is null".to_owned()))?;
        Ok(call.changed(row))
    })
}

/// An error when the options are unusable or name columns that the table does not have.
#[pg_extern(stable, strict, parallel_safe)]
pub(crate) fn _check_row_options(relation: pg_sys::Oid, options: JsonB) -> Result<(), ErrorReport> {
    let options = RowOptions::parse(&options.0).map_err(Error::from)?;
    Ok(check_columns(relation, &options)?)
}

fn check_columns(relation: pg_sys::Oid, options: &RowOptions) -> Result<(), Error> {
    let missing = Spi::get_one_with_args::<String>(
        "select n.name from pg_catalog.unnest($2) as n (name)
         where not exists (
             select from pg_catalog.pg_attribute as a
             where a.attrelid = $1 and a.attname = n.name and a.attnum > 0 and not a.attisdropped)
         limit 1",
        &[relation.into(), options.columns().into()],
    )
    .or_else(|error| match error {
        pgrx::spi::Error::InvalidPosition => Ok(None),
        error => Err(error),
    })?;
    match missing {
        None => Ok(()),
        Some(column) => Err(Error::NoSuchColumn(column)),
    }
}
