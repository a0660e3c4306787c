//! `start_flow`: starts by a call, with idempotency.

use std::collections::HashSet;
use std::rc::Rc;

use actionflow_core::payload::TriggerPayload;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::Value;

use crate::catalog::Flow;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::Mode;
use crate::run::Run;
use crate::runs;
use crate::start_keys;
use crate::validation::check_size;

/// What became of one target of one payload.
pub(crate) struct Answer {
    pub(crate) user_id: String,
    run_id: Option<i64>,
    pub(crate) status: Status,
    pub(crate) reason: Option<&'static str>,
}

/// How payloads start a flow.
pub(crate) struct Start<'a> {
    pub(crate) flow: &'a Flow,
    pub(crate) mode: Mode,
    /// What has started it, unless it was a call.
    pub(crate) trigger_id: Option<i64>,
    /// The id that runs have whose payload gives none; otherwise each such payload gets its own.
    pub(crate) shared_invocation: Option<&'a str>,
    /// By what such a start is known when it comes again; otherwise by nothing.
    pub(crate) shared_key: Option<&'a str>,
}

impl Start<'_> {
    /// By what a payload's start is known when it comes again.
    pub(crate) fn key_of<'p>(&'p self, payload: &'p TriggerPayload) -> Option<&'p str> {
        payload.flow_invocation_id.as_deref().or(self.shared_key)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Started,
    Duplicate,
    Ignored,
}

/// Starts a flow for customers.
///
/// `payload` is a trigger payload or an array of them. One row for each customer of each payload, in their order:
/// `started`; `duplicate`, with the run of the first start; or `ignored`, with a reason. Volatile: it writes.
///
/// # Errors
/// 42704 no such flow; 55000 archived, or live without a published version; 22023 malformed payload, unknown mode or a
/// required variable missing, and then nothing is started; 54000 payload over 1 MiB.
#[pg_extern(volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
#[expect(
    clippy::type_complexity,
    reason = "pgrx reads the column names from this type"
)]
pub(crate) fn start_flow(
    flow: Option<&str>,
    payload: Option<JsonB>,
    mode: default!(Option<&str>, "'live'"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(user_id, String),
            name!(run_id, Option<i64>),
            name!(status, String),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let flow = flow.ok_or(Error::Null("flow"))?;
    let payload = payload.ok_or(Error::Null("payload"))?;
    let mode = Mode::parse(mode.ok_or(Error::Null("mode"))?)?;
    let answers = start(flow, &payload.0, mode)?;
    Ok(TableIterator::new(answers.into_iter().map(|answer| {
        (
            answer.user_id,
            answer.run_id,
            answer.status.as_str().to_owned(),
            answer.reason.map(str::to_owned),
        )
    })))
}

fn start(flow: &str, payload: &Value, mode: Mode) -> Result<Vec<Answer>, Error> {
    let mut engine = Engine::new()?;
    let flow = Rc::clone(engine.catalog.flow(flow)?);
    check_size("the payload", payload)?;
    let payloads = TriggerPayload::parse_many(payload)?;
    let start = Start {
        flow: &flow,
        mode,
        trigger_id: None,
        shared_invocation: None,
        shared_key: None,
    };
    let answers = start_payloads(&mut engine, &start, &payloads)?;
    engine.finish()?;
    Ok(answers)
}

/// Starts a flow for the targets of payloads, one answer for each. Nothing has been written when this fails for what a payload
/// says.
pub(crate) fn start_payloads(
    engine: &mut Engine,
    start: &Start<'_>,
    payloads: &[TriggerPayload],
) -> Result<Vec<Answer>, Error> {
    let &Start { flow, mode, .. } = start;
    check_variables(flow, mode, payloads)?;
    let mut answers = Vec::new();
    let test_users = match mode {
        Mode::Live => HashSet::new(),
        Mode::Test => {
            let ids = payloads
                .iter()
                .flat_map(|payload| &payload.target_user_ids)
                .map(String::as_str);
            runs::test_users(ids.collect())?
        }
    };
    let mut claims = start_keys::claim(engine, start, payloads, &test_users)?;
    for payload in payloads {
        let unkeyed = start
            .shared_invocation
            .map_or_else(runs::generated_invocation_id, str::to_owned);
        for user_id in &payload.target_user_ids {
            if mode == Mode::Test && !test_users.contains(user_id) {
                answers.push(Answer::ignored(user_id, "not a test user"));
                continue;
            }
            let invocation_id = payload.flow_invocation_id.as_ref().unwrap_or(&unkeyed);
            let run_id = match start.key_of(payload) {
                None => engine.next_run_id(),
                Some(key) => match claims.get_mut(&(key.to_owned(), user_id.clone())) {
                    Some(claim) if claim.is_new => {
                        claim.is_new = false;
                        claim.run_id
                    }
                    Some(claim) => {
                        answers.push(Answer::of_run(user_id, claim.run_id, Status::Duplicate));
                        continue;
                    }
                    None => return Err(Error::Internal("a start key is missing".to_owned())),
                },
            };
            let mut run = Run::of_call(
                run_id,
                flow,
                mode,
                user_id.clone(),
                invocation_id.clone(),
                engine.stamp.now,
            )?;
            run.trigger_id = start.trigger_id;
            run.variables = payload.variables.clone();
            run.context.notification_detail = Value::Object(payload.notification_detail.clone());
            run.context.metadata = Value::Object(payload.metadata.clone());
            engine.start(run)?;
            answers.push(Answer::of_run(user_id, run_id, Status::Started));
        }
    }
    Ok(answers)
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
        }
    }
}

impl Answer {
    fn of_run(user_id: &str, run_id: i64, status: Status) -> Self {
        Self {
            user_id: user_id.to_owned(),
            run_id: Some(run_id),
            status,
            reason: None,
        }
    }

    fn ignored(user_id: &str, reason: &'static str) -> Self {
        Self {
            user_id: user_id.to_owned(),
            run_id: None,
            status: Status::Ignored,
            reason: Some(reason),
        }
    }
}

/// Before anything is started: a missing variable in the last payload must not leave the first ones started.
pub(crate) fn check_variables(
    flow: &Flow,
    mode: Mode,
    payloads: &[TriggerPayload],
) -> Result<(), Error> {
    let (_, definition) = flow
        .version_for(mode)
        .ok_or_else(|| Error::UnpublishedFlow(flow.name.clone()))?;
    for payload in payloads {
        definition
            .run_variables(&payload.variables)
            .map_err(|missing| Error::MissingVariable {
                flow: flow.name.clone(),
                variable: missing.0,
            })?;
    }
    Ok(())
}
