//! Runs that wait and go on, and the questions about the database that starting a run asks.

use std::collections::HashSet;
use std::rc::Rc;

use actionflow_core::enrich::answer::Answer;
use actionflow_core::flow::{ActionKind, Definition, OnFailure};
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

/// Goes on with runs of which an awaited delivery has ended: queues their next actions, or ends them. `answers` are those to
/// enrich actions, an array of `{"run_id", "action", "answer"}`.
///
/// Called by `complete_deliveries` in its transaction. A run of which another awaited delivery is still under way is
/// left alone; the lock on the run makes one of two workers that complete at once see that it was the last.
#[pg_extern(volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn _advance_runs(
    run_ids: Option<Vec<i64>>,
    answers: Option<JsonB>,
) -> Result<(), ErrorReport> {
    let Some(run_ids) = run_ids else {
        return Ok(());
    };
    let answers = answers.map_or(Value::Null, |answers| answers.0);
    Ok(advance_runs(run_ids, &answers)?)
}

fn advance_runs(mut run_ids: Vec<i64>, answers: &Value) -> Result<(), Error> {
    // In one order, so that two workers never wait for each other.
    run_ids.sort_unstable();
    run_ids.dedup();
    let mut engine = Engine::new()?;
    for Ready {
        mut run,
        next_action,
        dead_actions,
    } in ready_runs(run_ids)?
    {
        if take_answers(&mut run, answers)? {
            Spi::run_with_args(
                "update actionflow._run as r set variables = $2 where r.id = $1",
                &[
                    run.id.into(),
                    JsonB(Value::Object(run.variables.clone())).into(),
                ],
            )?;
        }
        let fatal = dead_actions.iter().find(|action| !tolerates(&run, action));
        let progress = match fatal {
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

/// Puts the data of answers into the run's variables; whether there were some.
fn take_answers(run: &mut Run, answers: &Value) -> Result<bool, Error> {
    let mut has_changed = false;
    for item in answers.as_array().into_iter().flatten() {
        if item["run_id"].as_i64() != Some(run.id) {
            continue;
        }
        let answer = Answer::from_json(&item["answer"])
            .map_err(|error| Error::Internal(format!("an answer cannot be read: {error}")))?;
        let action = item["action"].as_str().unwrap_or_default().to_owned();
        run.variables.insert(action, Value::Object(answer.data));
        has_changed = true;
    }
    Ok(has_changed)
}

/// Whether the run goes on although a delivery of this action is dead. Nobody waits for the answer, so it does not matter
/// which one a failure stands for.
fn tolerates(run: &Run, action: &str) -> bool {
    run.definition
        .actions
        .iter()
        .find(|known| known.name == action)
        .is_some_and(|known| match &known.kind {
            ActionKind::Notify { .. } => false,
            ActionKind::Enrich(enrich) => enrich.on_failure != OnFailure::Error,
        })
}

/// A run for which nothing is awaited any more.
struct Ready {
    run: Run,
    next_action: usize,
    /// Actions of which an awaited delivery is dead or cancelled.
    dead_actions: Vec<String>,
}

/// Locks the runs, and gives those for which nothing is awaited any more.
fn ready_runs(run_ids: Vec<i64>) -> Result<Vec<Ready>, Error> {
    Spi::connect_mut(|client| {
        // Apart from the question below, whose snapshot must be taken after the lock is granted.
        client.update(
            "select from actionflow._run as r where r.id = any($1) order by r.id for update",
            None,
            &[run_ids.clone().into()],
        )?;
        let table = client.update(
            "select r.id, r.flow_id, f.name, r.version, r.mode, r.user_id, r.flow_invocation_id, r.trigger_id, r.event_id,
                 r.depth, r.variables, r.definition, r.context, r.next_action, dead.actions
             from actionflow._run as r
             join actionflow._flow as f on f.id = r.flow_id
             cross join lateral (
                 select array(
                     select l.action from actionflow._dead_letter as l where l.run_id = r.id and l.is_awaited
                     union all
                     select h.action from actionflow._delivery_history as h
                     where h.run_id = r.id and h.is_awaited and h.state = 'cancelled')
             ) as dead (actions)
             where r.id = any($1) and not exists (
                 select from actionflow._delivery as d where d.run_id = r.id and d.is_awaited)
             order by r.id",
            None,
            &[run_ids.into()],
        )?;
        table.map(|row| read_run(&row)).collect()
    })
}

fn read_run(row: &SpiHeapTupleData<'_>) -> Result<Ready, Error> {
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
    Ok(Ready {
        run,
        next_action: usize::try_from(next_action).unwrap_or_default(),
        dead_actions: row.get(15)?.unwrap_or_default(),
    })
}
