//! Trigger payloads: for whom a flow starts, and with what.

use serde_json::{Map, Value};

use crate::input::{Error, Kind, Object, Place};

const SUBJECT: &str = "trigger payload";
const KEYS: &[&str] = &[
    "targetUserIds",
    "flowInvocationId",
    "variables",
    "notificationDetail",
    "metadata",
];
/// Ids are part of index rows, which Postgres bounds at about 2,700 bytes.
const MAX_ID_BYTES: usize = 512;

/// One trigger payload that has been checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TriggerPayload {
    /// Customers, each once, in the order given.
    pub target_user_ids: Vec<String>,
    /// The caller's idempotency key.
    pub flow_invocation_id: Option<String>,
    /// Values over the flow's defaults.
    pub variables: Map<String, Value>,
    /// Passed on as given.
    pub notification_detail: Map<String, Value>,
    /// Passed on as given.
    pub metadata: Map<String, Value>,
}

impl TriggerPayload {
    /// Parses one payload, or an array of them.
    ///
    /// # Errors
    /// When a key is unknown, a type is wrong, or there is no target.
    pub fn parse_many(json: &Value) -> Result<Vec<Self>, Error> {
        let root = Place::root(SUBJECT);
        match json {
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(index, value)| Self::parse(value, root.index(index)))
                .collect(),
            other => Ok(vec![Self::parse(other, root)?]),
        }
    }

    /// The payload as JSON, with every id as a string; what is empty is left out.
    #[must_use]
    pub fn into_json(self) -> Value {
        let mut json = Map::new();
        json.insert("targetUserIds".to_owned(), self.target_user_ids.into());
        if let Some(id) = self.flow_invocation_id {
            json.insert("flowInvocationId".to_owned(), id.into());
        }
        for (key, part) in [
            ("variables", self.variables),
            ("notificationDetail", self.notification_detail),
            ("metadata", self.metadata),
        ] {
            if !part.is_empty() {
                json.insert(key.to_owned(), Value::Object(part));
            }
        }
        Value::Object(json)
    }

    fn parse(json: &Value, place: Place) -> Result<Self, Error> {
        let object = Object::read(place, json, KEYS)?;
        const TARGETS: &str = "targetUserIds";
        let targets = object
            .find(TARGETS)
            .ok_or_else(|| object.place.error(Kind::MissingKey(TARGETS)))?;
        let target_user_ids = read_targets(targets, || object.place.key(TARGETS))?;
        Self::parse_rest(&object, target_user_ids)
    }

    /// Everything but the targets, which may come from elsewhere.
    pub(crate) fn parse_rest(
        object: &Object<'_>,
        target_user_ids: Vec<String>,
    ) -> Result<Self, Error> {
        const INVOCATION: &str = "flowInvocationId";
        let flow_invocation_id = object
            .find(INVOCATION)
            .map(|value| parse_id(value, || object.place.key(INVOCATION)))
            .transpose()?;
        Ok(Self {
            target_user_ids,
            flow_invocation_id,
            variables: object.free_object("variables")?,
            notification_detail: object.free_object("notificationDetail")?,
            metadata: object.free_object("metadata")?,
        })
    }
}

pub(crate) fn parse_targets(value: &Value, place: &Place) -> Result<Vec<String>, Error> {
    read_targets(value, || place.clone())
}

/// The place is asked for when something is wrong there.
fn read_targets(value: &Value, place: impl Fn() -> Place) -> Result<Vec<String>, Error> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one @ (Value::String(_) | Value::Number(_)) => std::slice::from_ref(one),
        other => return Err(place().wrong_type("an array of user ids", other)),
    };
    if list.is_empty() {
        return Err(place().unusable("the list of targets is empty", "Name at least one user id."));
    }
    if let [one] = list {
        return Ok(vec![parse_id(one, || place().index(0))?]);
    }
    let mut seen = std::collections::HashSet::with_capacity(list.len());
    let mut ids = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let id = parse_id(value, || place().index(index))?;
        if seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// A non-empty string, or a whole number of at most 64 bits, whose text form is meant. Numbers with a point or an exponent are
/// refused, whole or not: systems do not agree on how to write those.
fn parse_id(value: &Value, place: impl Fn() -> Place) -> Result<String, Error> {
    let id = match value {
        Value::String(text) => text.clone(),
        // Numbers keep their text, and this is the one with which two texts mean the same whole number.
        Value::Number(number) if number.as_str() == "-0" => "0".to_owned(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        other => return Err(place().wrong_type("a string", other)),
    };
    check_id(&id, place)?;
    Ok(id)
}

fn check_id(id: &str, place: impl Fn() -> Place) -> Result<(), Error> {
    if id.is_empty() {
        return Err(place().unusable("an id is empty", "Give the id as a non-empty string."));
    }
    if id.len() > MAX_ID_BYTES {
        return Err(place().error(Kind::TooLarge {
            what: "an id",
            limit: format!("{MAX_ID_BYTES} bytes"),
        }));
    }
    Ok(())
}

/// Whether a text is an absolute http or https URL of at most 2,048 bytes.
#[must_use]
pub fn is_web_address(text: &str) -> bool {
    const MAX_BYTES: usize = 2_048;
    text.len() <= MAX_BYTES
        && url::Url::parse(text)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Checks a customer id that stands alone.
///
/// # Errors
/// When it is empty or too long.
pub fn check_user_id(id: &str) -> Result<(), Error> {
    check_id(id, || Place::root("user id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_string_stands_for_a_list_of_one_and_repeats_count_once() {
        let one = TriggerPayload::parse_many(&json!({"targetUserIds": "42"})).expect("valid");
        assert_eq!(one[0].target_user_ids, ["42"]);
        let two = TriggerPayload::parse_many(&json!([{"targetUserIds": ["1", "2", "1", 2]}]))
            .expect("valid");
        assert_eq!(two[0].target_user_ids, ["1", "2"]);
    }

    #[test]
    fn a_whole_number_is_one_customer_and_any_other_number_none() {
        let parse = |number: &str| {
            let json =
                format!(r#"{{"targetUserIds": [0, {number}], "flowInvocationId": {number}}}"#);
            TriggerPayload::parse_many(&serde_json::from_str(&json).expect("JSON"))
        };
        for (number, ids) in [
            ("-0", &["0"][..]),
            ("-1", &["0", "-1"]),
            ("18446744073709551615", &["0", "18446744073709551615"]),
        ] {
            let payload = parse(number).expect(number);
            assert_eq!(payload[0].target_user_ids, ids);
            let last = ids.last().map(|id| (*id).to_owned());
            assert_eq!(payload[0].flow_invocation_id, last);
        }
        for number in ["1.0", "-0.0", "1e2", "1E0", "18446744073709551616"] {
            let error = parse(number).expect_err(number);
            assert_eq!(error.path, "$.targetUserIds[1]");
        }
    }

    #[test]
    fn mistakes_name_their_place() {
        let cases = [
            (
                json!({}),
                "$",
                "invalid trigger payload: key \"targetUserIds\" is missing",
            ),
            (
                json!({"targetUserIds": []}),
                "$.targetUserIds",
                "invalid trigger payload: the list of targets is empty",
            ),
            (
                json!([{"targetUserIds": ["a", ""]}]),
                "$[0].targetUserIds[1]",
                "invalid trigger payload: an id is empty",
            ),
            (
                json!({"targetUserIds": "a", "vars": {}}),
                "$",
                "invalid trigger payload: unknown key \"vars\"",
            ),
            (
                json!({"targetUserIds": "a", "variables": 3}),
                "$.variables",
                "invalid trigger payload: expected an object, got a number",
            ),
        ];
        for (payload, path, message) in cases {
            let error = TriggerPayload::parse_many(&payload).expect_err("must be refused");
            assert_eq!(
                (error.path.as_str(), error.to_string().as_str()),
                (path, message)
            );
        }
    }
}
