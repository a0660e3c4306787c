//! The steps of a flow: notify and enrich.

use serde_json::Value;

use crate::enrich::answer::Decision;
use crate::input::{Error, Kind, Object, Place};

const MAX_ENDPOINTS_OF_ACTION: usize = 50;
const MAX_CACHE_PROPERTIES: usize = 20;
const NOTIFY_KEYS: &[&str] = &["name", "type", "endpoints", "endpoint", "wait"];
const ENRICH_KEYS: &[&str] = &[
    "name",
    "type",
    "endpoint",
    "timeout_ms",
    "on_failure",
    "cache_seconds",
    "cache_by",
];
const DEFAULT_ENRICH_TIMEOUT_MS: u32 = 2_000;

/// A step of a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Unique within the flow.
    pub name: String,
    /// Endpoint names with their paths in the definition, each once; one for enrich.
    pub endpoints: Vec<(String, String)>,
    /// What it does.
    pub kind: ActionKind,
}

impl Action {
    /// Whether the next action starts only when this one's deliveries have ended.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        match self.kind {
            ActionKind::Notify { waits } => waits,
            ActionKind::Enrich(_) => true,
        }
    }
}

/// What an action does with its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub enum ActionKind {
    /// Tells them.
    Notify {
        /// Whether the next action starts only when every delivery has been made.
        waits: bool,
    },
    /// Asks one, and waits for the answer.
    Enrich(Enrich),
}

/// How an endpoint is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrich {
    /// For the whole action, retries included.
    pub timeout_ms: u32,
    /// What a failure means.
    pub on_failure: OnFailure,
    /// For how long an answer may be used again, and for what beside the same customer.
    pub cache: Option<Cache>,
}

/// When an answer may be used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// After it came.
    pub seconds: u32,
    /// Names of the event's properties that have to be the same.
    pub by: Vec<String>,
}

/// What a failure of an enrich action means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// As if the endpoint had answered so.
    Decide(Decision),
    /// The event fails, or the run when nobody waits.
    Error,
}

/// Parses one element of `actions`.
pub(super) fn parse(value: &Value, place: Place) -> Result<Action, Error> {
    let kind_place = place.key("type");
    let kind = value
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let (object, kind) = match kind {
        "enrich" => {
            let object = Object::read(place, value, ENRICH_KEYS)?;
            object.require("endpoint")?;
            let enrich = parse_enrich(&object)?;
            (object, ActionKind::Enrich(enrich))
        }
        "notify" => {
            let object = Object::read(place, value, NOTIFY_KEYS)?;
            let waits = object.flag("wait")?.unwrap_or(false);
            (object, ActionKind::Notify { waits })
        }
        _ if value.get("type").is_none() => {
            Object::read(place.clone(), value, NOTIFY_KEYS)?;
            return Err(place.error(Kind::MissingKey("type")));
        }
        other => {
            return Err(kind_place.unusable(
                format!("unknown action type \"{other}\""),
                "Use one of: notify, enrich.",
            ));
        }
    };
    let (name_value, name_place) = object.require("name")?;
    let name = object.text("name")?.unwrap_or_default();
    if name.is_empty() || name.len() > 100 {
        return Err(name_place.unusable(
            format!("action name {name_value} cannot be used"),
            "Use 1 to 100 characters.",
        ));
    }
    Ok(Action {
        name: name.to_owned(),
        endpoints: parse_endpoints(&object)?,
        kind,
    })
}

fn parse_enrich(object: &Object<'_>) -> Result<Enrich, Error> {
    let timeout_ms = object.whole_number(
        "timeout_ms",
        10,
        60_000,
        "Use a whole number of milliseconds from 10 to 60000.",
    )?;
    let seconds = object.whole_number(
        "cache_seconds",
        0,
        86_400,
        "Use a whole number of seconds from 0 to 86400.",
    )?;
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let on_failure = match object.text("on_failure")? {
        None | Some("error") => OnFailure::Error,
        Some(text) => OnFailure::Decide(Decision::parse(text).ok_or_else(|| {
            object.place.key("on_failure").unusable(
                format!("unknown \"on_failure\" \"{text}\""),
                "Use one of: allow, block, challenge, error.",
            )
        })?),
    };
    let by = parse_cache_by(object)?;
    let seconds = number(seconds).filter(|seconds| *seconds > 0);
    Ok(Enrich {
        timeout_ms: number(timeout_ms).unwrap_or(DEFAULT_ENRICH_TIMEOUT_MS),
        on_failure,
        cache: seconds.map(|seconds| Cache { seconds, by }),
    })
}

fn parse_cache_by(object: &Object<'_>) -> Result<Vec<String>, Error> {
    const EXPECTED: &str = "an array of names of properties";
    let Some((value, place)) = object.get("cache_by") else {
        return Ok(Vec::new());
    };
    let list = value
        .as_array()
        .ok_or_else(|| place.wrong_type(EXPECTED, value))?;
    if list.len() > MAX_CACHE_PROPERTIES {
        return Err(place.error(Kind::TooLarge {
            what: "the number of properties",
            limit: MAX_CACHE_PROPERTIES.to_string(),
        }));
    }
    list.iter()
        .enumerate()
        .map(|(index, name)| {
            let name = name
                .as_str()
                .ok_or_else(|| place.index(index).wrong_type("a property's name", name))?;
            Ok(name.to_owned())
        })
        .collect()
}

/// `endpoints` as a list, or `endpoint` for a single one.
fn parse_endpoints(object: &Object<'_>) -> Result<Vec<(String, String)>, Error> {
    const EXPECTED: &str = "an array of endpoint names";
    if let Some((value, place)) = object.get("endpoint") {
        if object.get("endpoints").is_some() {
            return Err(place.unusable(
                "\"endpoint\" and \"endpoints\" are both given",
                "Give one of them.",
            ));
        }
        let name = value
            .as_str()
            .ok_or_else(|| place.wrong_type("an endpoint name", value))?;
        return Ok(vec![(name.to_owned(), place.path)]);
    }
    let (value, place) = object.require("endpoints")?;
    let list = value
        .as_array()
        .ok_or_else(|| place.wrong_type(EXPECTED, value))?;
    if list.is_empty() {
        return Err(place.unusable(
            "the list of endpoints is empty",
            "Name at least one endpoint.",
        ));
    }
    if list.len() > MAX_ENDPOINTS_OF_ACTION {
        let limit = MAX_ENDPOINTS_OF_ACTION.to_string();
        return Err(place.error(Kind::TooLarge {
            what: "the number of endpoints",
            limit,
        }));
    }
    let mut endpoints: Vec<(String, String)> = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let place = place.index(index);
        let name = value
            .as_str()
            .ok_or_else(|| place.wrong_type("an endpoint name", value))?;
        if endpoints.iter().any(|(earlier, _)| earlier == name) {
            return Err(place.unusable(
                format!("endpoint \"{name}\" is named twice"),
                "Name every endpoint once.",
            ));
        }
        endpoints.push((name.to_owned(), place.path));
    }
    Ok(endpoints)
}
