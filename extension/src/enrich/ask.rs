//! What an event asks before it goes on, and the one answer that comes of many.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actionflow_core::enrich::answer::{Answer, Decision};
use actionflow_core::enrich::reply::{Failure, FailureKind, Reply};
use actionflow_core::flow::{Action, ActionKind, Enrich, MissingVariable, OnFailure};
use serde_json::{Map, Value, json};

use super::call::{self, Question};
use super::check_ring;
use crate::catalog::{Catalog, Endpoint, EventTrigger};
use crate::error::Error;
use crate::event::{Event, Mode};
use crate::pg::sequence;
use crate::run::Run;
use crate::runs;

/// With less of the event's budget nobody is asked: it is the least that an action may be given.
const LEAST_TIME: Duration = Duration::from_millis(10);

/// What the way to the first action takes of the budget does not cut it short.
const NEGLIGIBLE: Duration = Duration::from_millis(50);

/// Runs that have been asked for already, by the trigger that starts them, and the action with which they go on.
pub(crate) type Asked = HashMap<i64, (Run, usize)>;

/// What the caller of `emit_event` is told.
pub(crate) struct Combined {
    action: Decision,
    custom_claims: Map<String, Value>,
    user_message: Option<String>,
    /// By action.
    results: Map<String, Value>,
}

impl Combined {
    fn new() -> Self {
        Self {
            action: Decision::Allow,
            custom_claims: Map::new(),
            user_message: None,
            results: Map::new(),
        }
    }

    /// `{"event_id", "action", "custom_claims", "results"}`, and `user_message` if there is one.
    pub(crate) fn to_json(&self, event_id: i64) -> Value {
        let mut json = json!({
            "event_id": event_id.to_string(), "action": self.action.as_str(),
            "custom_claims": self.custom_claims, "results": self.results
        });
        if let Some(message) = &self.user_message {
            json["user_message"] = json!(message);
        }
        json
    }

    /// The strictest action wins, and its message; of claims of one name the last.
    fn add(&mut self, flow: &str, action: &str, decision: Decision, reply: &Reply) {
        if decision > self.action {
            self.action = decision;
            self.user_message = None;
        }
        let result = match reply {
            Reply::Answer(answer) => {
                self.custom_claims.extend(answer.custom_claims.clone());
                if decision == self.action && self.user_message.is_none() {
                    self.user_message.clone_from(&answer.user_message);
                }
                told(answer)
            }
            Reply::Failure(failure) => {
                json!({"action": decision.as_str(), "failure": failure.kind.as_str()})
            }
        };
        let mut name = action.to_owned();
        let mut count = 1;
        while self.results.contains_key(&name) {
            name = match count {
                1 => format!("{flow}/{action}"),
                _ => format!("{flow}/{action}/{count}"),
            };
            count += 1;
        }
        self.results.insert(name, result);
    }
}

/// An answer as the caller sees it: without the reason, which is for the log.
fn told(answer: &Answer) -> Value {
    let mut json = answer.to_json();
    if let Some(object) = json.as_object_mut() {
        object.remove("reason");
    }
    json
}

/// Performs the enrich actions with which the flows begin that an event triggers, in their order and within one budget.
///
/// # Errors
/// When an action fails whose failure is an error, and where there is no ring and one is needed.
pub(crate) fn ask(catalog: &Catalog, event: &Event) -> Result<(Combined, Asked), Error> {
    let mut combined = Combined::new();
    let mut asked = Asked::new();
    let runs = runs_to_ask(catalog, event)?;
    if runs.is_empty() {
        return Ok((combined, asked));
    }
    check_ring()?;
    let deadline = Instant::now() + catalog.enrich_budget;
    for (trigger, mut run, missing) in runs {
        let mut next = 0;
        let definition = Rc::clone(&run.definition);
        for action in &definition.actions {
            let ActionKind::Enrich(enrich) = &action.kind else {
                break;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let reply = match &missing {
                None => perform(catalog, event, &run, action, enrich, left),
                Some(missing) => unsendable(missing.to_string()),
            };
            let decision = decide(&run, action, enrich, &reply)?;
            combined.add(&run.flow_name, &action.name, decision, &reply);
            if let Reply::Answer(answer) = reply {
                let data = Value::Object(answer.data);
                run.variables.insert(action.name.clone(), data);
            }
            next += 1;
        }
        // A run that lacks a variable fails when it starts, as any other.
        if missing.is_none() {
            asked.insert(trigger, (run, next));
        }
    }
    Ok((combined, asked))
}

/// The runs that the event starts and that begin with an enrich action, by their triggers, with their variables or with the
/// one that is missing.
fn runs_to_ask(
    catalog: &Catalog,
    event: &Event,
) -> Result<Vec<(i64, Run, Option<MissingVariable>)>, Error> {
    let triggers: Vec<&EventTrigger> = catalog
        .listeners(event)
        .filter(|trigger| {
            let version = trigger.flow.version_for(trigger.mode_for(event));
            version.is_some_and(|(_, definition)| definition.begins_with_enrich())
        })
        .collect();
    let mut test_users = HashSet::new();
    if triggers
        .iter()
        .any(|trigger| trigger.mode_for(event) == Mode::Test)
    {
        test_users = runs::test_users(vec![event.user_id.as_str()])?;
    }
    let new_id = || sequence::next_value(catalog.sequences.run);
    let mut runs = Vec::new();
    for trigger in triggers {
        let Some(mut run) = Run::of_event(trigger, event, &test_users, new_id) else {
            continue;
        };
        let missing = match run.definition.run_variables(&run.variables) {
            Ok(variables) => {
                run.variables = variables;
                None
            }
            Err(missing) => Some(missing),
        };
        runs.push((trigger.id, run, missing));
    }
    Ok(runs)
}

fn unsendable(message: String) -> Reply {
    Reply::Failure(Failure {
        kind: FailureKind::Unsendable,
        message,
    })
}

fn perform(
    catalog: &Catalog,
    event: &Event,
    run: &Run,
    action: &Action,
    enrich: &Enrich,
    left: Duration,
) -> Reply {
    let name = action
        .endpoints
        .first()
        .map_or("", |(name, _)| name.as_str());
    let Some(endpoint) = catalog.endpoint(name) else {
        return unsendable(format!("endpoint \"{name}\" does not exist"));
    };
    if left < LEAST_TIME {
        return Reply::Failure(Failure {
            kind: FailureKind::Timeout,
            message: "the budget of the event was used up before".to_owned(),
        });
    }
    let (cache_key, cache_seconds) = cache(event, run, action, enrich);
    let head = json!({
        "id": sequence::next_value(catalog.sequences.delivery),
        "endpoint_id": endpoint.id, "endpoint_revision": endpoint.revision, "url": endpoint.url(run.mode),
        "flow_id": run.flow_id, "run_id": run.id, "event_id": event.id, "action": action.name,
        "user_id": run.user_id, "mode": run.mode.as_str(),
        "cache_key": cache_key, "cache_seconds": cache_seconds
    });
    let wanted = Duration::from_millis(u64::from(enrich.timeout_ms)).min(catalog.enrich_budget);
    let (before, after) = run.message(action);
    call::ask(&Question {
        endpoint,
        head: head.to_string(),
        body: format!("{before}{}{after}", json!({"id": run.user_id})),
        time: left.min(wanted),
        is_cut_short: left + NEGLIGIBLE < wanted,
    })
}

/// What an answer may be found under again. Never in test mode, whose flow may change with every start.
fn cache(event: &Event, run: &Run, action: &Action, enrich: &Enrich) -> (Option<String>, u32) {
    let Some(cache) = enrich.cache.as_ref().filter(|_| run.mode == Mode::Live) else {
        return (None, 0);
    };
    let properties = cache.by.iter().map(|name| event.properties.get(name));
    let properties: Vec<_> = properties.collect();
    let key = json!([
        run.flow_id,
        run.version,
        action.name,
        run.user_id,
        properties
    ]);
    (Some(key.to_string()), cache.seconds)
}

/// What a reply means for the event.
fn decide(run: &Run, action: &Action, enrich: &Enrich, reply: &Reply) -> Result<Decision, Error> {
    match (reply, enrich.on_failure) {
        (Reply::Answer(answer), _) => Ok(answer.action),
        (Reply::Failure(_), OnFailure::Decide(decision)) => Ok(decision),
        (Reply::Failure(failure), OnFailure::Error) => Err(Error::Enrich {
            flow: run.flow_name.clone(),
            action: action.name.clone(),
            kind: failure.kind.as_str(),
        }),
    }
}

impl Endpoint {
    /// Where a request of this mode goes.
    fn url(&self, mode: Mode) -> &str {
        match (mode, &self.test_url) {
            (Mode::Test, Some(url)) => url,
            _ => &self.url,
        }
    }
}
