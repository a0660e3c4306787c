//! One run, and what its messages say.

use std::rc::Rc;

use actionflow_core::flow::Definition;
use actionflow_core::message::{self, Head};
use pgrx::datum::TimestampWithTimeZone;
use serde_json::{Map, Value, json};

use crate::catalog::Flow;
use crate::clock;
use crate::engine::STARTED;
use crate::error::Error;
use crate::event::{Event, Mode};
use crate::events::is_transactional_email;

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

    pub(crate) fn message(&self, action: &str) -> (String, String) {
        let head = Head {
            kind: &self.context.kind,
            timestamp: &self.context.timestamp,
            mode: self.mode.as_str(),
            flow: &self.flow_name,
            version: self.version,
            run_id: self.id,
            flow_invocation_id: &self.flow_invocation_id,
            action,
        };
        let context = &self.context;
        let tail = message::tail(
            &self.variables,
            &context.event,
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
