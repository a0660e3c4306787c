//! Runs that wait and go on, and the questions about the database that starting a run asks.

use std::collections::HashSet;
use std::rc::Rc;

use actionflow_core::flow::Definition;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;
use serde_json::Value;

use crate::engine::Engine;
use crate::error::Error;
use crate::event::Mode;
use crate::run::{Context, Run};
use crate::store::Progress;

/// A random id. Not from Postgres' own source, which some builds open a file for, every time.
pub(crate) fn generated_invocation_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Which of the given ids are test users.
pub(crate) fn test_users(ids: Vec<&str>) -> Result<HashSet<String>, Error> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    Spi::connect(|client| {
        let found = client.select(
            "select t.user_id from actionflow._test_user as t where t.user_id = any($1)",
            None,
            &[ids.into()],
        )?;
        let mut users = HashSet::new();
        for row in found {
            users.extend(row.get::<String>(1)?);
        }
        Ok(users)
    })
}

/// Goes on with runs of which an awaited delivery has ended: queues their next actions, or ends them.
///
/// Called by `complete_deliveries` in its transaction. A run of which another awaited delivery is still under way is
/// left alone; the lock on the run makes one of two workers that complete at once see that it was the last.
#[pg_extern(volatile, strict, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn _advance_runs(run_ids: Vec<i64>) -> Result<(), ErrorReport> {
    Ok(advance_runs(run_ids)?)
}

fn advance_runs(mut run_ids: Vec<i64>) -> Result<(), Error> {
    // In one order, so that two workers never wait for each other.
    run_ids.sort_unstable();
    run_ids.dedup();
    let mut engine = Engine::new()?;
    for (run, next_action, dead_action) in ready_runs(run_ids)? {
        let progress = match dead_action {
            Some(action) => {
                let error = format!("a delivery of action \"{action}\" is dead or cancelled");
                engine.fail(&run, error)?
            }
            None => engine.advance(&run, next_action)?,
        };
        match progress {
            Progress::Waiting { next_action, .. } => Spi::run_with_args(
                "update actionflow._run as r set next_action = $2 where r.id = $1",
                &[run.id.into(), next_action.into()],
            )?,
            Progress::Finished { state, error } => Spi::run_with_args(
                "select actionflow._finish_run($1, $2, $3)",
                &[run.id.into(), state.into(), error.into()],
            )?,
        }
    }
    engine.finish()
}

/// Locks the runs, and gives those for which nothing is awaited any more: the run, its next action, and the action of a
/// dead delivery if there is one.
fn ready_runs(run_ids: Vec<i64>) -> Result<Vec<(Run, usize, Option<String>)>, Error> {
    Spi::connect_mut(|client| {
        // Apart from the question below, whose snapshot must be taken after the lock is granted.
        client.update(
            "select from actionflow._run as r where r.id = any($1) order by r.id for update",
            None,
            &[run_ids.clone().into()],
        )?;
        let table = client.update(
            "select r.id, r.flow_id, f.name, r.version, r.mode, r.user_id, r.flow_invocation_id, r.trigger_id, r.event_id,
                 r.depth, r.variables, r.definition, r.context, r.next_action, dead.action
             from actionflow._run as r
             join actionflow._flow as f on f.id = r.flow_id
             left join lateral (
                 select l.action from actionflow._dead_letter as l where l.run_id = r.id and l.is_awaited
                 union all
                 select h.action from actionflow._delivery_history as h where h.run_id = r.id and h.is_awaited and h.state = 'cancelled'
                 limit 1
             ) as dead on true
             where r.id = any($1) and not exists (
                 select from actionflow._delivery as d where d.run_id = r.id and d.is_awaited)
             order by r.id",
            None,
            &[run_ids.into()],
        )?;
        table.map(|row| read_run(&row)).collect()
    })
}

fn read_run(row: &SpiHeapTupleData<'_>) -> Result<(Run, usize, Option<String>), Error> {
    let missing = || Error::Internal("a waiting run is incomplete".to_owned());
    let json = |column: usize| -> Result<Value, Error> {
        Ok(row.get::<JsonB>(column)?.ok_or_else(missing)?.0)
    };
    let variables = match json(11)? {
        Value::Object(map) => map,
        _ => return Err(missing()),
    };
    let run = Run {
        id: row.get(1)?.ok_or_else(missing)?,
        flow_id: row.get(2)?.ok_or_else(missing)?,
        flow_name: row.get(3)?.ok_or_else(missing)?,
        version: row.get(4)?,
        mode: Mode::parse(&row.get::<String>(5)?.ok_or_else(missing)?)?,
        user_id: row.get(6)?.ok_or_else(missing)?,
        flow_invocation_id: row.get(7)?.ok_or_else(missing)?,
        trigger_id: row.get(8)?,
        event_id: row.get(9)?,
        depth: row.get(10)?.ok_or_else(missing)?,
        variables,
        definition: Rc::new(Definition::parse(&json(12)?)?),
        context: Context::from_json(json(13)?),
    };
    let next_action: i32 = row.get(14)?.ok_or_else(missing)?;
    Ok((
        run,
        usize::try_from(next_action).unwrap_or_default(),
        row.get(15)?,
    ))
}
