//! Writing what the engine has decided: one statement a table, however many rows.

use std::cell::RefCell;
use std::collections::{HashMap, hash_map::Entry};

use pgrx::datum::{DatumWithOid, IntoDatum, TimestampWithTimeZone};
use pgrx::spi::{OwnedPreparedStatement, Spi, SpiClient};

use crate::error::Error;
use crate::prepared::prepare;

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
    /// Of an enrich action's attempts.
    pub(crate) enrich_timeout_ms: Option<i32>,
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

/// What is written; each is one prepared statement per backend, number of rows and partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Table {
    Event,
    FinishedRun,
    WaitingRun,
    Delivery,
}

/// One row is written from plain parameters: setting up a scan over arrays would cost as much as the insert itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Rows {
    One,
    Many,
}

type Key = (Table, Rows, Option<i16>);

thread_local! {
    static PREPARED: RefCell<HashMap<Key, OwnedPreparedStatement>> = RefCell::new(HashMap::new());
}

/// Names and types of the columns that runs have from their start, in the order of their parameters.
macro_rules! run_columns {
    ($($more:tt)*) => {
        &[
            ("id", "bigint"), ("flow_id", "bigint"), ("version", "int"), ("mode", "text"), ("user_id", "text"),
            ("flow_invocation_id", "text"), ("trigger_id", "bigint"), ("event_id", "bigint"), ("depth", "int"),
            ("variables", "text"), $($more)*
        ]
    };
}

impl Table {
    /// Columns that differ from row to row: their names and the types in which they are sent.
    fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Event => &[
                ("id", "bigint"),
                ("name", "text"),
                ("user_id", "text"),
                ("properties", "text"),
                ("mode", "text"),
                ("flow_id", "bigint"),
                ("run_id", "bigint"),
                ("depth", "int"),
                ("occurred_at", "timestamptz"),
            ],
            Self::FinishedRun => run_columns![("state", "text"), ("error", "text")],
            Self::WaitingRun => run_columns![("next_action", "int"), ("context", "text")],
            Self::Delivery => &[
                ("id", "bigint"),
                ("run_id", "bigint"),
                ("flow_id", "bigint"),
                ("endpoint_id", "bigint"),
                ("is_awaited", "boolean"),
                ("profile_part", "text"),
                ("mode", "text"),
                ("action", "text"),
                ("user_id", "text"),
                ("order_key", "text"),
                ("profile", "text"),
                ("body_head", "text"),
                ("body_tail", "text"),
                ("enrich_timeout_ms", "int"),
            ],
        }
    }

    /// The insert up to its source of rows, which is called `r`. Named parameters are those that all rows share.
    fn insert(self, ring: Option<i16>) -> String {
        // Straight into the partition: routing would cost a tenth of the insert, and the ring is known.
        let ring = ring.unwrap_or_default();
        match self {
            Self::Event => format!(
                "insert into actionflow._event_{ring}
                     (id, name, user_id, properties, mode, flow_id, run_id, depth, occurred_at, created_at, ring)
                 select r.id, r.name, r.user_id, r.properties::jsonb, r.mode, r.flow_id, r.run_id, r.depth, r.occurred_at,
                     $10, {ring}"
            ),
            Self::FinishedRun => format!(
                "insert into actionflow._run_history_{ring}
                     (id, flow_id, version, mode, user_id, flow_invocation_id, trigger_id, event_id, depth, variables,
                      state, error, started_at, finished_at, ring)
                 select r.id, r.flow_id, r.version, r.mode, r.user_id, r.flow_invocation_id, r.trigger_id, r.event_id, r.depth,
                     r.variables::jsonb, r.state, r.error, $13, $13, {ring}"
            ),
            // A draft may change while the run waits, so the run takes its definition along.
            Self::WaitingRun => "insert into actionflow._run
                     (id, flow_id, version, mode, user_id, flow_invocation_id, trigger_id, event_id, depth, variables,
                      next_action, context, definition, started_at)
                 select r.id, r.flow_id, r.version, r.mode, r.user_id, r.flow_invocation_id, r.trigger_id, r.event_id, r.depth,
                     r.variables::jsonb, r.next_action, r.context::jsonb,
                     coalesce(
                         (select v.definition from actionflow._flow_version as v
                          where v.flow_id = r.flow_id and v.version = r.version),
                         (select f.draft from actionflow._flow as f where f.id = r.flow_id)),
                     $13"
                .to_owned(),
            Self::Delivery => "insert into actionflow._delivery
                     (id, run_id, flow_id, endpoint_id, is_awaited, profile_part, mode, action, user_id, order_key, profile,
                      body_head, body_tail, enrich_timeout_ms, created_at, next_attempt_at)
                 select r.id, r.run_id, r.flow_id, r.endpoint_id, r.is_awaited, r.profile_part, r.mode, r.action, r.user_id,
                     r.order_key, r.profile::jsonb, r.body_head, r.body_tail, r.enrich_timeout_ms, $15, $16"
                .to_owned(),
        }
    }

    fn sql(self, rows: Rows, ring: Option<i16>) -> String {
        let suffix = if rows == Rows::Many { "[]" } else { "" };
        let typed = |(index, (_, sql_type)): (usize, &(&str, &str))| {
            format!("${}::{sql_type}{suffix}", index + 1)
        };
        let parameters: Vec<_> = self.columns().iter().enumerate().map(typed).collect();
        let names: Vec<_> = self.columns().iter().map(|(name, _)| *name).collect();
        let parameters = parameters.join(", ");
        let source = match rows {
            Rows::One => format!("(values ({parameters}))"),
            Rows::Many => format!("unnest({parameters})"),
        };
        format!(
            "{} from {source} as r ({})",
            self.insert(ring),
            names.join(", ")
        )
    }

    fn write(
        self,
        client: &mut SpiClient<'_>,
        count: usize,
        ring: Option<i16>,
        arguments: &[DatumWithOid<'_>],
    ) -> Result<(), Error> {
        let rows = if count == 1 { Rows::One } else { Rows::Many };
        PREPARED.with_borrow_mut(|prepared| {
            let statement = match prepared.entry((self, rows, ring)) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    entry.insert(prepare(client, &self.sql(rows, ring), arguments)?)
                }
            };
            client.update(&*statement, None, arguments)?;
            Ok(())
        })
    }
}

/// One column of the rows: an array, or the value itself when there is one row.
fn column<'a, R, T: IntoDatum>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> DatumWithOid<'a>
where
    Vec<T>: IntoDatum,
{
    match rows {
        [row] => value(row).into(),
        rows => rows.iter().map(value).collect::<Vec<T>>().into(),
    }
}

fn write_events(client: &mut SpiClient<'_>, rows: &[EventRow], stamp: Stamp) -> Result<(), Error> {
    Table::Event.write(
        client,
        rows.len(),
        Some(stamp.event_ring),
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
    arguments.push(stamp.now.into());
    Table::FinishedRun.write(client, rows.len(), Some(stamp.run_ring), &arguments)
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
    Table::WaitingRun.write(client, rows.len(), None, &arguments)
}

fn write_deliveries(
    client: &mut SpiClient<'_>,
    rows: &[DeliveryRow],
    stamp: Stamp,
) -> Result<(), Error> {
    Table::Delivery.write(
        client,
        rows.len(),
        None,
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
            column(rows, |row| row.enrich_timeout_ms),
            stamp.now.into(),
            stamp.due.into(),
        ],
    )
}
