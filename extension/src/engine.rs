//! Events start runs, runs queue deliveries and emit events, until nothing more follows.
//!
//! The engine decides in memory and writes through [`Batch`]: a statement that changes a thousand customers costs one
//! insert a table. Nothing here waits for anything outside the transaction.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use actionflow_core::flow::{Action, ActionKind};
use actionflow_core::retention::ring_partition;
use serde_json::{Map, Value, json};

use crate::catalog::{self, Catalog, Endpoint, EventTrigger};
use crate::clock;
use crate::enrich::ask::Asked;
use crate::error::Error;
use crate::event::{Cause, Event, Mode};
use crate::pg::{self, lock, sequence, transaction};
use crate::run::Run;
use crate::runs;
use crate::segment::build;
use crate::segment::cache::{self, Segments};
use crate::segment::state::{self, Counted};
use crate::store::{Batch, DeliveryRow, EventRow, Progress, RunRow, Stamp};

/// Rows held in memory before they are written: enough that the cost of a statement does not count, few enough that a
/// statement over a million customers stays small.
const FLUSH_AT: usize = 5_000;

pub(crate) const STARTED: &str = "action-flow-started";
pub(crate) const COMPLETED: &str = "action-flow-completed";
pub(crate) const FAILED: &str = "action-flow-failed";

/// How a run goes on after its actions have been looked at.
enum Step {
    Waits { next_action: usize },
    Ends,
    Fails(String),
}

pub(crate) struct Engine {
    pub(crate) catalog: Rc<Catalog>,
    pub(crate) stamp: Stamp,
    /// What segments take for now, in microseconds since 1970.
    pub(crate) segments_now: i64,
    segments: Rc<Segments>,
    batch: Batch,
    /// Events that triggers wait for.
    pending: VecDeque<Event>,
    /// Events that segments count.
    counted: Vec<Counted>,
    /// Runs whose first actions have been performed before they start, by event and trigger.
    asked: HashMap<(i64, i64), (Run, usize)>,
    is_counting: bool,
    /// Whether a segment is being built that this session does not know of yet.
    pub(crate) is_building: bool,
}

impl Engine {
    pub(crate) fn new() -> Result<Self, Error> {
        let catalog = catalog::current()?;
        // Held to the end of the transaction and taken before the question, so that whoever builds a segment either waits
        // for this transaction or is seen by it.
        lock::announce_writing(catalog.event_table);
        let is_building = lock::is_build_announced();
        let now = clock::now()?;
        let seconds = clock::unix_seconds(now);
        let stamp = Stamp {
            now,
            due: pg::clock::wall_clock(),
            event_ring: ring_partition(catalog.retention.events, seconds),
            run_ring: ring_partition(catalog.retention.runs, seconds),
        };
        Ok(Self {
            catalog,
            stamp,
            segments_now: clock::segments_now()?,
            segments: cache::current()?,
            batch: Batch::default(),
            pending: VecDeque::new(),
            counted: Vec::new(),
            asked: HashMap::new(),
            is_counting: false,
            is_building,
        })
    }

    /// Whether an event of this name is of use to anything.
    pub(crate) fn wants(&self, event: &str) -> bool {
        self.catalog.wants(event) || self.segments.counts(event)
    }

    pub(crate) fn next_event_id(&self) -> i64 {
        sequence::next_value(self.catalog.sequences.event)
    }

    pub(crate) fn next_run_id(&self) -> i64 {
        sequence::next_value(self.catalog.sequences.run)
    }

    /// Records an event for which flows have asked already.
    pub(crate) fn emit_asked(&mut self, event: Event, asked: Asked) -> Result<(), Error> {
        let id = event.id;
        let asked = asked.into_iter();
        self.asked
            .extend(asked.map(|(trigger, run)| ((id, trigger), run)));
        self.emit(event)
    }

    /// Records an event and remembers it for [`Engine::finish`], which starts what it triggers.
    pub(crate) fn emit(&mut self, event: Event) -> Result<(), Error> {
        self.batch.push_event(EventRow {
            id: event.id,
            name: event.name.clone(),
            user_id: event.user_id.clone(),
            properties: Value::Object(event.properties.clone()).to_string(),
            mode: event.mode.as_str(),
            flow_id: event.origin.map(|(flow, _)| flow),
            run_id: event.origin.map(|(_, run)| run),
            depth: event.depth,
            occurred_at: event.occurred_at,
        });
        if event.mode == Mode::Live && (self.is_building || self.segments.counts(&event.name)) {
            self.counted.push(Counted {
                id: event.id,
                name: event.name.clone(),
                user_id: event.user_id.clone(),
                at: clock::unix_microseconds(event.occurred_at),
                properties: Value::Object(event.properties.clone()),
                cause: Cause {
                    origin: event.origin,
                    depth: event.depth,
                },
            });
        }
        if self.catalog.listeners(&event).next().is_some() {
            self.pending.push_back(event);
        }
        let waiting = self.pending.len() + self.counted.len();
        // What is counted may need a lock or a query for each customer, so it is not done while it is being counted.
        if !self.is_counting && (waiting >= FLUSH_AT || self.batch.len() >= FLUSH_AT) {
            self.drain()?;
            self.flush()?;
        }
        Ok(())
    }

    /// Starts what the events trigger, and writes everything.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.drain()?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.batch.has_deliveries() {
            transaction::note_queued();
        }
        self.batch.flush(self.stamp)
    }

    fn drain(&mut self) -> Result<(), Error> {
        while !self.pending.is_empty() || !self.counted.is_empty() {
            self.count()?;
            let generation: Vec<Event> = std::mem::take(&mut self.pending).into();
            let test_users = self.test_users_among(&generation)?;
            let catalog = Rc::clone(&self.catalog);
            for event in &generation {
                for trigger in catalog.listeners(event) {
                    self.fire(trigger, event, &test_users)?;
                }
            }
        }
        Ok(())
    }

    /// Lets segments count the events that have come; whoever enters or exits by them makes further events.
    fn count(&mut self) -> Result<(), Error> {
        let events = std::mem::take(&mut self.counted);
        if events.is_empty() {
            return Ok(());
        }
        let segments = Rc::clone(&self.segments);
        if self.is_building {
            let users: Vec<String> = events.iter().map(|event| event.user_id.clone()).collect();
            build::note_touched(&users)?;
        }
        self.is_counting = true;
        state::count(self, &segments, events)?;
        self.is_counting = false;
        Ok(())
    }

    /// The test users that test-mode starts of these events could be for; asks only when there is such a start.
    fn test_users_among(&self, events: &[Event]) -> Result<HashSet<String>, Error> {
        let ids: HashSet<&str> = events
            .iter()
            .filter(|event| {
                let mut listeners = self.catalog.listeners(event);
                listeners.any(|trigger| trigger.mode_for(event) == Mode::Test)
            })
            .map(|event| event.user_id.as_str())
            .collect();
        runs::test_users(ids.into_iter().collect())
    }

    fn fire(
        &mut self,
        trigger: &EventTrigger,
        event: &Event,
        test_users: &HashSet<String>,
    ) -> Result<(), Error> {
        if let Some((run, next_action)) = self.asked.remove(&(event.id, trigger.id)) {
            return self.start_at(run, next_action);
        }
        let new_id = || self.next_run_id();
        let Some(run) = Run::of_event(trigger, event, test_users, new_id) else {
            return Ok(());
        };
        if run.depth > self.catalog.max_flow_depth {
            // Recorded, so that somebody sees why; no event, or the chain would go on.
            let limit = self.catalog.max_flow_depth;
            self.write_run(
                &run,
                Progress::Finished {
                    state: "failed",
                    error: Some(format!(
                        "a chain of flows ends after {limit} runs (setting max_flow_depth)"
                    )),
                },
            );
            return Ok(());
        }
        self.start(run)
    }

    /// Starts a run whose variables are what was given for it.
    pub(crate) fn start(&mut self, mut run: Run) -> Result<(), Error> {
        match run.definition.run_variables(&run.variables) {
            Ok(variables) => {
                run.variables = variables;
                self.start_at(run, 0)
            }
            Err(missing) => {
                self.emit_about(&run, STARTED, None)?;
                self.write_step(&run, Step::Fails(missing.to_string()))
            }
        }
    }

    /// Starts a run that has its variables, and whose actions before this one have been performed.
    fn start_at(&mut self, run: Run, next_action: usize) -> Result<(), Error> {
        self.emit_about(&run, STARTED, None)?;
        let step = self.perform(&run, next_action);
        self.write_step(&run, step)
    }

    fn write_step(&mut self, run: &Run, step: Step) -> Result<(), Error> {
        let progress = self.progress(run, step)?;
        self.write_run(run, progress);
        // Here too: starts by a call need not emit anything.
        if self.batch.len() >= FLUSH_AT {
            self.flush()?;
        }
        Ok(())
    }

    /// Goes on with a run that waited, from the given action.
    pub(crate) fn advance(&mut self, run: &Run, next_action: usize) -> Result<Progress, Error> {
        let step = self.perform(run, next_action);
        self.progress(run, step)
    }

    /// Ends a run that has failed for a reason that lies outside its definition.
    pub(crate) fn fail(&mut self, run: &Run, error: String) -> Result<Progress, Error> {
        self.progress(run, Step::Fails(error))
    }

    /// Where a run stands after a step; emits its end, if it is one.
    fn progress(&mut self, run: &Run, step: Step) -> Result<Progress, Error> {
        let (state, event, error) = match step {
            Step::Waits { next_action } => {
                return Ok(Progress::Waiting {
                    next_action: i32::try_from(next_action).unwrap_or(i32::MAX),
                    context: run.context.to_json().to_string(),
                });
            }
            Step::Ends => ("completed", COMPLETED, None),
            Step::Fails(error) => ("failed", FAILED, Some(error)),
        };
        self.emit_about(run, event, error.as_deref())?;
        Ok(Progress::Finished { state, error })
    }

    /// Queues the deliveries of actions in their order, up to one that has to be waited for.
    fn perform(&mut self, run: &Run, from: usize) -> Step {
        let catalog = Rc::clone(&self.catalog);
        for (index, action) in run.definition.actions.iter().enumerate().skip(from) {
            let found: Result<Vec<&Rc<Endpoint>>, &str> = action
                .endpoints
                .iter()
                .map(|(name, _)| catalog.endpoint(name).ok_or(name.as_str()))
                .collect();
            let endpoints = match found {
                Ok(endpoints) => endpoints,
                Err(name) => {
                    return Step::Fails(format!(
                        "endpoint \"{name}\" of action \"{}\" does not exist",
                        action.name
                    ));
                }
            };
            let message = run.message(action);
            for endpoint in endpoints {
                self.queue(run, action, endpoint, message.clone());
            }
            if action.is_waited_for() {
                return Step::Waits {
                    next_action: index + 1,
                };
            }
        }
        Step::Ends
    }

    fn queue(&mut self, run: &Run, action: &Action, to: &Endpoint, message: (String, String)) {
        let (body_head, body_tail) = message;
        let (profile, profile_part, enrich_timeout_ms) = match &action.kind {
            ActionKind::Notify { .. } => {
                let profile = run.context.profile.as_ref().map(Value::to_string);
                (profile, run.context.profile_part(), None)
            }
            ActionKind::Enrich(enrich) => (None, "none", i32::try_from(enrich.timeout_ms).ok()),
        };
        self.batch.push_delivery(DeliveryRow {
            id: sequence::next_value(self.catalog.sequences.delivery),
            run_id: run.id,
            flow_id: run.flow_id,
            endpoint_id: to.id,
            is_awaited: action.is_waited_for(),
            profile_part,
            mode: run.mode.as_str(),
            action: action.name.clone(),
            user_id: run.user_id.clone(),
            order_key: to.is_ordered.then(|| run.user_id.clone()),
            profile,
            enrich_timeout_ms,
            body_head,
            body_tail,
        });
    }

    /// Emits one of actionflow's own events about a run, when something can use it.
    fn emit_about(&mut self, run: &Run, name: &str, error: Option<&str>) -> Result<(), Error> {
        if !self.wants(name) {
            return Ok(());
        }
        let mut properties = Map::new();
        properties.insert("flow".to_owned(), json!(run.flow_name));
        properties.insert("version".to_owned(), json!(run.version));
        properties.insert("run_id".to_owned(), json!(run.id.to_string()));
        properties.insert(
            "flow_invocation_id".to_owned(),
            json!(run.flow_invocation_id),
        );
        if let Some(error) = error {
            properties.insert("error".to_owned(), json!(error));
        }
        let id = self.next_event_id();
        self.emit(Event {
            id,
            name: name.to_owned(),
            user_id: run.user_id.clone(),
            properties,
            mode: run.mode,
            origin: Some((run.flow_id, run.id)),
            depth: run.depth,
            occurred_at: self.stamp.now,
            profile: run.context.profile.clone(),
            crossing: None,
        })
    }

    fn write_run(&mut self, run: &Run, progress: Progress) {
        self.batch.push_run(RunRow {
            id: run.id,
            flow_id: run.flow_id,
            version: run.version,
            mode: run.mode.as_str(),
            user_id: run.user_id.clone(),
            flow_invocation_id: run.flow_invocation_id.clone(),
            trigger_id: run.trigger_id,
            event_id: run.event_id,
            depth: run.depth,
            variables: Value::Object(run.variables.clone()).to_string(),
            progress,
        });
    }
}
