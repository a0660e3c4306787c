//! Writing what the engine has decided: one statement a table, however many rows.

use std::cell::RefCell;

use pgrx::datum::{DatumWithOid, IntoDatum, TimestampWithTimeZone};
use pgrx::pg_sys;
use pgrx::spi::{OwnedPreparedStatement, Spi, SpiClient};

use crate::error::Error;

/// Rows that are still to be written, as columns.
#[derive(Default)]
pub(crate) struct Batch {
    events: Vec<EventRow>,
    runs: Vec<RunRow>,
    deliveries: Vec<DeliveryRow>,
}

pub(crate) struct EventRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) user_id: String,
    pub(crate) properties: String,
    pub(crate) mode: &'static str,
    pub(crate) flow_id: Option<i64>,
    pub(crate) run_id: Option<i64>,
    pub(crate) depth: i32,
    pub(crate) occurred_at: TimestampWithTimeZone,
}

pub(crate) struct RunRow {
    pub(crate) id: i64,
    pub(crate) flow_id: i64,
    pub(crate) version: Option<i32>,
    pub(crate) mode: &'static str,
    pub(crate) user_id: String,
    pub(crate) flow_invocation_id: String,
    pub(crate) trigger_id: Option<i64>,
    pub(crate) event_id: Option<i64>,
    pub(crate) depth: i32,
    pub(crate) variables: String,
    pub(crate) progress: Progress,
}

/// Where a run stands when it is written.
pub(crate) enum Progress {
    Finished {
        state: &'static str,
        error: Option<String>,
    },
    Waiting {
        next_action: i32,
        context: String,
    },
}

pub(crate) struct DeliveryRow {
    pub(crate) id: i64,
    pub(crate) run_id: i64,
    pub(crate) flow_id: i64,
    pub(crate) endpoint_id: i64,
    pub(crate) is_awaited: bool,
    /// `all`, `email` or `none`: what of the profile is read when it is sent.
    pub(crate) profile_part: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) action: String,
    pub(crate) user_id: String,
    pub(crate) order_key: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) body_head: String,
    pub(crate) body_tail: String,
}

/// Moments and ring partitions that all rows of a batch share.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) now: TimestampWithTimeZone,
    pub(crate) due: TimestampWithTimeZone,
    pub(crate) event_ring: i16,
    pub(crate) run_ring: i16,
}

impl Batch {
    pub(crate) fn push_event(&mut self, row: EventRow) {
        self.events.push(row);
    }

    pub(crate) fn push_run(&mut self, row: RunRow) {
        self.runs.push(row);
    }

    pub(crate) fn push_delivery(&mut self, row: DeliveryRow) {
        self.deliveries.push(row);
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len() + self.runs.len() + self.deliveries.len()
    }

    /// Whether something is in it that a worker should see.
    pub(crate) fn has_deliveries(&self) -> bool {
        !self.deliveries.is_empty()
    }

    /// Writes and empties the batch.
    pub(crate) fn flush(&mut self, stamp: Stamp) -> Result<(), Error> {
        let Self {
            events,
            runs,
            deliveries,
        } = std::mem::take(self);
        let (finished, waiting): (Vec<_>, Vec<_>) = runs
            .into_iter()
            .partition(|run| matches!(run.progress, Progress::Finished { .. }));
        Spi::connect_mut(|client| {
            if !events.is_empty() {
                write_events(client, &events, stamp)?;
            }
            if !finished.is_empty() {
                write_finished_runs(client, &finished, stamp)?;
            }
            if !waiting.is_empty() {
                write_waiting_runs(client, &waiting, stamp)?;
            }
            if !deliveries.is_empty() {
                write_deliveries(client, &deliveries, stamp)?;
            }
            Ok(())
        })
    }
}

/// The statements, prepared once per backend.
#[derive(Clone, Copy)]
enum Statement {
    Events,
    FinishedRuns,
    WaitingRuns,
    Deliveries,
}

thread_local! {
    static PREPARED: RefCell<[Option<OwnedPreparedStatement>; 4]> = const { RefCell::new([const { None }; 4]) };
}

impl Statement {
    fn sql(self) -> &'static str {
        match self {
            Self::Events => {
                "insert into actionflow._event
                     (id, name, user_id, properties, mode, flow_id, run_id, depth, occurred_at, created_at, ring)
                 select e.id, e.name, e.user_id, e.properties::jsonb, e.mode, e.flow_id, e.run_id, e.depth, e.occurred_at, $10, $11
                 from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
                     $8::int[], $9::timestamptz[])
                     as e (id, name, user_id, properties, mode, flow_id, run_id, depth, occurred_at)"
            }
            Self::FinishedRuns => {
                "insert into actionflow._run_history
                     (id, flow_id, version, mode, user_id, flow_invocation_id, trigger_id, event_id, depth, variables,
                      state, error, started_at, finished_at, ring)
                 select r.id, r.flow_id, r.version, r.mode, r.user_id, r.flow_invocation_id, r.trigger_id, r.event_id, r.depth,
                     r.variables::jsonb, r.state, r.error, $13, $13, $14
                 from unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                     $8::bigint[], $9::int[], $10::text[], $11::text[], $12::text[])
                     as r (id, flow_id, version, mode, user_id, flow_invocation_id, trigger_id, event_id, depth, variables,
                         state, error)"
            }
            Self::WaitingRuns => {
                "insert into actionflow._run
                     (id, flow_id, version, mode, user_id, flow_invocation_id, trigger_id, event_id, depth, variables,
                      next_action, context, definition, started_at)
                 select r.id, r.flow_id, r.version, r.mode, r.user_id, r.flow_invocation_id, r.trigger_id, r.event_id, r.depth,
                     r.variables::jsonb, r.next_action, r.context::jsonb,
                     -- A draft may change while the run waits, so the run takes its definition along.
                     coalesce(
                         (select v.definition from actionflow._flow_version as v
                          where v.flow_id = r.flow_id and v.version = r.version),
                         (select f.draft from actionflow._flow as f where f.id = r.flow_id)),
                     $13
                 from unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                     $8::bigint[], $9::int[], $10::text[], $11::int[], $12::text[])
                     as r (id, flow_id, version, mode, user_id, flow_invocation_id, trigger_id, event_id, depth, variables,
                         next_action, context)"
            }
            Self::Deliveries => {
                "insert into actionflow._delivery
                     (id, run_id, flow_id, endpoint_id, is_awaited, profile_part, mode, action, user_id, order_key, profile,
                      body_head, body_tail, created_at, next_attempt_at)
                 select d.id, d.run_id, d.flow_id, d.endpoint_id, d.is_awaited, d.profile_part, d.mode, d.action, d.user_id,
                     d.order_key, d.profile::jsonb, d.body_head, d.body_tail, $14, $15
                 from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[], $6::text[], $7::text[],
                     $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[])
                     as d (id, run_id, flow_id, endpoint_id, is_awaited, profile_part, mode, action, user_id, order_key,
                         profile, body_head, body_tail)"
            }
        }
    }

    fn execute(
        self,
        client: &mut SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
    ) -> Result<(), Error> {
        PREPARED.with_borrow_mut(|prepared| {
            let slot = &mut prepared[self as usize];
            if slot.is_none() {
                let types: Vec<_> = arguments
                    .iter()
                    .map(|argument| pg_sys::PgOid::from(argument.oid()))
                    .collect();
                *slot = Some(client.prepare_mut(self.sql(), &types)?.keep());
            }
            if let Some(statement) = slot.as_ref() {
                client.update(statement, None, arguments)?;
            }
            Ok(())
        })
    }
}

/// One column of the rows as an array argument.
fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> DatumWithOid<'a>
where
    Vec<T>: IntoDatum,
{
    rows.iter().map(value).collect::<Vec<T>>().into()
}

fn write_events(client: &mut SpiClient<'_>, rows: &[EventRow], stamp: Stamp) -> Result<(), Error> {
    Statement::Events.execute(
        client,
        &[
            column(rows, |row| row.id),
            column(rows, |row| row.name.as_str()),
            column(rows, |row| row.user_id.as_str()),
            column(rows, |row| row.properties.as_str()),
            column(rows, |row| row.mode),
            column(rows, |row| row.flow_id),
            column(rows, |row| row.run_id),
            column(rows, |row| row.depth),
            column(rows, |row| row.occurred_at),
            stamp.now.into(),
            stamp.event_ring.into(),
        ],
    )
}

/// The columns that running and finished runs have in common, `$1` to `$10`.
fn run_columns(rows: &[RunRow]) -> Vec<DatumWithOid<'_>> {
    vec![
        column(rows, |row| row.id),
        column(rows, |row| row.flow_id),
        column(rows, |row| row.version),
        column(rows, |row| row.mode),
        column(rows, |row| row.user_id.as_str()),
        column(rows, |row| row.flow_invocation_id.as_str()),
        column(rows, |row| row.trigger_id),
        column(rows, |row| row.event_id),
        column(rows, |row| row.depth),
        column(rows, |row| row.variables.as_str()),
    ]
}

fn write_finished_runs(
    client: &mut SpiClient<'_>,
    rows: &[RunRow],
    stamp: Stamp,
) -> Result<(), Error> {
    let mut arguments = run_columns(rows);
    arguments.push(column(rows, |row| match &row.progress {
        Progress::Finished { state, .. } => Some(*state),
        Progress::Waiting { .. } => None,
    }));
    arguments.push(column(rows, |row| match &row.progress {
        Progress::Finished { error, .. } => error.as_deref(),
        Progress::Waiting { .. } => None,
    }));
    arguments.extend([stamp.now.into(), stamp.run_ring.into()]);
    Statement::FinishedRuns.execute(client, &arguments)
}

fn write_waiting_runs(
    client: &mut SpiClient<'_>,
    rows: &[RunRow],
    stamp: Stamp,
) -> Result<(), Error> {
    let mut arguments = run_columns(rows);
    arguments.push(column(rows, |row| match &row.progress {
        Progress::Waiting { next_action, .. } => Some(*next_action),
        Progress::Finished { .. } => None,
    }));
    arguments.push(column(rows, |row| match &row.progress {
        Progress::Waiting { context, .. } => Some(context.as_str()),
        Progress::Finished { .. } => None,
    }));
    arguments.push(stamp.now.into());
    Statement::WaitingRuns.execute(client, &arguments)
}

fn write_deliveries(
    client: &mut SpiClient<'_>,
    rows: &[DeliveryRow],
    stamp: Stamp,
) -> Result<(), Error> {
    Statement::Deliveries.execute(
        client,
        &[
            column(rows, |row| row.id),
            column(rows, |row| row.run_id),
            column(rows, |row| row.flow_id),
            column(rows, |row| row.endpoint_id),
            column(rows, |row| row.is_awaited),
            column(rows, |row| row.profile_part),
            column(rows, |row| row.mode),
            column(rows, |row| row.action.as_str()),
            column(rows, |row| row.user_id.as_str()),
            column(rows, |row| row.order_key.as_deref()),
            column(rows, |row| row.profile.as_deref()),
            column(rows, |row| row.body_head.as_str()),
            column(rows, |row| row.body_tail.as_str()),
            stamp.now.into(),
            stamp.due.into(),
        ],
    )
}
