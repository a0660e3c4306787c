//! One run, and what its messages say.

use std::collections::HashSet;
use std::rc::Rc;

use actionflow_core::flow::{Action, ActionKind, Definition};
use actionflow_core::message::{self, Head};
use pgrx::datum::TimestampWithTimeZone;
use serde_json::{Map, Value, json};

use crate::catalog::{EventTrigger, Flow};
use crate::clock;
use crate::engine::STARTED;
use crate::error::Error;
use crate::event::{Event, Mode};
use crate::events::{VERIFICATION_URL, is_transactional_email};
use crate::runs;

/// One customer going through one version of a flow.
pub(crate) struct Run {
    pub(crate) id: i64,
    pub(crate) flow_id: i64,
    pub(crate) flow_name: String,
    pub(crate) version: Option<i32>,
    pub(crate) definition: Rc<Definition>,
    pub(crate) mode: Mode,
    pub(crate) user_id: String,
    pub(crate) flow_invocation_id: String,
    pub(crate) trigger_id: Option<i64>,
    pub(crate) event_id: Option<i64>,
    pub(crate) depth: i32,
    pub(crate) variables: Map<String, Value>,
    pub(crate) context: Context,
}

/// What messages say beside the variables, fixed when the run starts.
#[derive(Clone)]
pub(crate) struct Context {
    /// `type` of the messages.
    pub(crate) kind: String,
    pub(crate) timestamp: String,
    /// `{"id", "name", "properties"}`, or null when no event started the run.
    pub(crate) event: Value,
    pub(crate) notification_detail: Value,
    pub(crate) metadata: Value,
    pub(crate) profile: Option<Value>,
}

impl Run {
    /// The run that an event starts by a trigger, with the event's properties for variables; `None` when it starts nothing.
    pub(crate) fn of_event(
        trigger: &EventTrigger,
        event: &Event,
        test_users: &HashSet<String>,
        new_id: impl FnOnce() -> i64,
    ) -> Option<Self> {
        let flow = &trigger.flow;
        // Events of a flow never start that same flow again.
        if event.origin.is_some_and(|(origin, _)| origin == flow.id) {
            return None;
        }
        let mode = trigger.mode_for(event);
        let (version, definition) = flow.version_for(mode)?;
        if mode == Mode::Test && !test_users.contains(&event.user_id) {
            return None;
        }
        Some(Self {
            id: new_id(),
            flow_id: flow.id,
            flow_name: flow.name.clone(),
            version,
            definition,
            mode,
            user_id: event.user_id.clone(),
            flow_invocation_id: runs::generated_invocation_id(),
            trigger_id: Some(trigger.id),
            event_id: Some(event.id),
            depth: event.depth + 1,
            variables: event.properties.clone(),
            context: Context::of_event(event),
        })
    }

    /// A run that a call starts, at depth one; an error when the flow has nothing to run in this mode.
    pub(crate) fn of_call(
        id: i64,
        flow: &Flow,
        mode: Mode,
        user_id: String,
        invocation_id: String,
        now: TimestampWithTimeZone,
    ) -> Result<Self, Error> {
        let (version, definition) = flow
            .version_for(mode)
            .ok_or_else(|| Error::UnpublishedFlow(flow.name.clone()))?;
        Ok(Self {
            id,
            flow_id: flow.id,
            flow_name: flow.name.clone(),
            version,
            definition,
            mode,
            user_id,
            flow_invocation_id: invocation_id,
            trigger_id: None,
            event_id: None,
            depth: 1,
            variables: Map::new(),
            context: Context {
                kind: STARTED.to_owned(),
                timestamp: clock::iso(now),
                event: Value::Null,
                notification_detail: json!({}),
                metadata: json!({}),
                profile: None,
            },
        })
    }

    /// An action's message around the customer, who is read when it is sent. The link of an e-mail is not for those who are asked.
    pub(crate) fn message(&self, action: &Action) -> (String, String) {
        let is_question = matches!(action.kind, ActionKind::Enrich(_));
        if !is_question || !is_transactional_email(&self.context.kind) {
            return self.render(&action.name, &self.variables, &self.context.event);
        }
        let (mut variables, mut event) = (self.variables.clone(), self.context.event.clone());
        variables.remove(VERIFICATION_URL);
        if let Some(properties) = event["properties"].as_object_mut() {
            properties.remove(VERIFICATION_URL);
        }
        self.render(&action.name, &variables, &event)
    }

    fn render(
        &self,
        action: &str,
        variables: &Map<String, Value>,
        event: &Value,
    ) -> (String, String) {
        let context = &self.context;
        let head = Head {
            kind: &context.kind,
            timestamp: &context.timestamp,
            mode: self.mode.as_str(),
            flow: &self.flow_name,
            version: self.version,
            run_id: self.id,
            flow_invocation_id: &self.flow_invocation_id,
            action,
        };
        let tail = message::tail(
            variables,
            event,
            &context.notification_detail,
            &context.metadata,
        );
        (head.render(), tail)
    }
}

impl Context {
    pub(crate) fn of_event(event: &Event) -> Self {
        Self {
            kind: event.name.clone(),
            timestamp: clock::iso(event.occurred_at),
            event: json!({"id": event.id.to_string(), "name": event.name, "properties": event.properties}),
            notification_detail: json!({}),
            metadata: json!({}),
            profile: event.profile.clone(),
        }
    }

    /// What of the profile the messages carry, and is still to be read.
    pub(crate) fn profile_part(&self) -> &'static str {
        if self.profile.is_some() {
            "none"
        } else if is_transactional_email(&self.kind) {
            "email"
        } else {
            "all"
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "kind": self.kind, "timestamp": self.timestamp, "event": self.event,
            "notification_detail": self.notification_detail, "metadata": self.metadata, "profile": self.profile
        })
    }

    pub(crate) fn from_json(mut json: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            kind: text(&json["kind"]),
            timestamp: text(&json["timestamp"]),
            event: json["event"].take(),
            notification_detail: json["notification_detail"].take(),
            metadata: json["metadata"].take(),
            profile: Some(json["profile"].take()).filter(|profile| !profile.is_null()),
        }
    }
}
