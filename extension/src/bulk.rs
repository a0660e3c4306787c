//! Starts for groups of customers: the targets of bulk jobs, and the members that a segment has already.

use std::rc::Rc;

use actionflow_core::audience::{Audience, Options};
use actionflow_core::payload::TriggerPayload;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::catalog::Flow;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::Mode;
use crate::flows::{Answer, Start, Status, check_variables, start_payloads};
use crate::runs;
use crate::validation::check_size;

/// Members that are in memory at once while a published flow starts for them.
const MEMBERS_AT_ONCE: i32 = 5_000;

/// What a bulk job is asked to do, checked as far as it can be before the job is made.
///
/// The audience is in `segment`, in `rule` with `relation`, or in `users`. `invocation_id` is what runs are marked with:
/// the caller's, or one for the whole job.
#[pg_extern(volatile, parallel_unsafe)]
#[expect(
    clippy::type_complexity,
    reason = "pgrx reads the column names from this type"
)]
pub(crate) fn _bulk_request(
    flow: Option<&str>,
    audience: Option<JsonB>,
    options: Option<JsonB>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(flow_id, i64),
            name!(segment, Option<String>),
            name!(rule, Option<JsonB>),
            name!(relation, Option<String>),
            name!(users, Option<Vec<String>>),
            name!(max_customers, i64),
            name!(invocation_id, String),
        ),
    >,
    ErrorReport,
> {
    let flow = flow.ok_or(Error::Null("flow"))?;
    let audience = audience.ok_or(Error::Null("audience"))?;
    let options = options.ok_or(Error::Null("options"))?;
    let engine = Engine::new()?;
    let flow = engine.catalog.flow(flow)?;
    let audience = Audience::parse(&audience.0).map_err(Error::from)?;
    check_size("the options", &options.0)?;
    let options = Options::parse(&options.0).map_err(Error::from)?;
    let max_customers = options.max_customers;
    let payload = options.payload(Vec::new());
    // A variable that is missing is told now, and not by a job that fails.
    check_variables(flow, Mode::Live, std::slice::from_ref(&payload))?;
    let invocation_id = payload
        .flow_invocation_id
        .unwrap_or_else(runs::generated_invocation_id);
    let (segment, rule, relation, users) = match audience {
        Audience::Segment(name) => (Some(name), None, None, None),
        Audience::Rule { rule, relation } => (None, Some(JsonB(rule)), relation, None),
        Audience::Users(ids) => (None, None, None, Some(ids)),
    };
    let row = (
        flow.id,
        segment,
        rule,
        relation,
        users,
        max_customers,
        invocation_id,
    );
    Ok(TableIterator::once(row))
}

/// Starts the flow of a bulk job for some of its customers.
#[pg_extern(volatile, strict, parallel_unsafe)]
pub(crate) fn _start_for_bulk(
    flow: &str,
    options: JsonB,
    invocation_id: &str,
    user_ids: Vec<String>,
) -> Result<TableIterator<'static, (name!(started, i64), name!(duplicates, i64))>, ErrorReport> {
    let options = Options::parse(&options.0).map_err(Error::from)?;
    let payload = options.payload(user_ids);
    let mut engine = Engine::new()?;
    let flow = Rc::clone(engine.catalog.flow(flow)?);
    let start = live_start(&flow, invocation_id);
    let answers = start_payloads(&mut engine, &start, &[payload])?;
    engine.finish()?;
    Ok(TableIterator::once((
        count(&answers, Status::Started),
        count(&answers, Status::Duplicate),
    )))
}

fn live_start<'a>(flow: &'a Flow, invocation_id: &'a str) -> Start<'a> {
    Start {
        flow,
        mode: Mode::Live,
        trigger_id: None,
        shared_invocation: Some(invocation_id),
        shared_key: None,
    }
}

fn count(answers: &[Answer], status: Status) -> i64 {
    let count = answers
        .iter()
        .filter(|answer| answer.status == status)
        .count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Starts a flow for the members of the segments on whose `enter` crossing its live triggers wait; returns how many.
#[pg_extern(volatile, strict, parallel_unsafe)]
pub(crate) fn _start_existing(flow: &str) -> Result<i64, ErrorReport> {
    Ok(start_existing(flow)?)
}

fn start_existing(flow: &str) -> Result<i64, Error> {
    let mut engine = Engine::new()?;
    let flow = Rc::clone(engine.catalog.flow(flow)?);
    let invocation_id = runs::generated_invocation_id();
    let cursor = Spi::connect_mut(|client| -> Result<String, Error> {
        let cursor = client.try_open_cursor_mut(
            "select m.user_id from actionflow._existing_members($1) as m (user_id)",
            &[flow.id.into()],
        )?;
        Ok(cursor.detach_into_name())
    })?;
    let mut started = 0;
    loop {
        let members = next_members(&cursor)?;
        if members.is_empty() {
            break;
        }
        let payload = TriggerPayload {
            target_user_ids: members,
            ..TriggerPayload::default()
        };
        let start = live_start(&flow, &invocation_id);
        let answers = start_payloads(&mut engine, &start, &[payload])?;
        started += count(&answers, Status::Started);
    }
    engine.finish()?;
    Ok(started)
}

/// The next ones from a cursor. Each time in an SPI session of its own, because only its end frees the rows.
fn next_members(cursor: &str) -> Result<Vec<String>, Error> {
    Spi::connect(|client| {
        let mut cursor = client.find_cursor(cursor)?;
        let mut members = Vec::new();
        for row in cursor.fetch(MEMBERS_AT_ONCE.into())? {
            members.extend(row.get::<String>(1)?);
        }
        if !members.is_empty() {
            cursor.detach_into_name();
        }
        Ok(members)
    })
}
