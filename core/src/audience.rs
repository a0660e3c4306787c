//! Audiences: for which customers a bulk job starts a flow, and with what.

use serde_json::Value;

use crate::input::{Error, Object, Place};
use crate::payload::{self, TriggerPayload};

const KINDS: &[&str] = &["segment", "rule", "users"];
const KIND_HINT: &str = "Give one of: segment, rule, users.";
/// Far above what is sent by accident, and the targets of one job still fit into one transaction.
const MAX_CUSTOMERS: i64 = 1_000_000;
const DEFAULT_MAX_CUSTOMERS: i64 = 100_000;

/// A group of customers.
#[derive(Debug, Clone, PartialEq)]
pub enum Audience {
    /// The members of the segment of this name.
    Segment(String),
    /// Customers whom a rule matches now.
    Rule {
        /// The rule as given; it is checked where it is evaluated.
        rule: Value,
        /// The watched table as given, unless it goes without saying.
        relation: Option<String>,
    },
    /// Customers picked by hand, each once.
    Users(Vec<String>),
}

impl Audience {
    /// Parses an audience.
    ///
    /// # Errors
    /// When a key is unknown, a type is wrong, or the audience is not exactly one of the kinds.
    pub fn parse(json: &Value) -> Result<Self, Error> {
        let object = Object::read(
            Place::root("audience"),
            json,
            &["segment", "rule", "users", "relation"],
        )?;
        let mut given = KINDS.iter().filter_map(|kind| object.get(kind));
        let (value, place) = given
            .next()
            .ok_or_else(|| object.place.unusable("it names nobody", KIND_HINT))?;
        if given.next().is_some() {
            return Err(object
                .place
                .unusable("it has more than one kind", KIND_HINT));
        }
        let relation = object.text("relation")?.map(str::to_owned);
        if let Some(rule) = object.get("rule").map(|(rule, _)| rule.clone()) {
            return Ok(Self::Rule { rule, relation });
        }
        if relation.is_some() {
            return Err(object.place.key("relation").unusable(
                "\"relation\" belongs to a rule",
                "Leave it out, or give a rule.",
            ));
        }
        if let Some(segment) = object.text("segment")? {
            return Ok(Self::Segment(segment.to_owned()));
        }
        if !value.is_array() {
            return Err(place.wrong_type("an array of user ids", value));
        }
        Ok(Self::Users(payload::parse_targets(value, &place)?))
    }
}

/// What the starts of a bulk job have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// An audience with more is refused.
    pub max_customers: i64,
    start: TriggerPayload,
}

impl Options {
    /// Parses the options of a bulk job.
    ///
    /// # Errors
    /// When a key is unknown, a type is wrong, or a number is out of range.
    pub fn parse(json: &Value) -> Result<Self, Error> {
        let object = Object::read(
            Place::root("bulk job options"),
            json,
            &[
                "max_customers",
                "variables",
                "notificationDetail",
                "metadata",
                "flowInvocationId",
            ],
        )?;
        let max_customers = object.whole_number(
            "max_customers",
            1,
            MAX_CUSTOMERS,
            "Use a whole number from 1 to 1000000.",
        )?;
        Ok(Self {
            max_customers: max_customers.unwrap_or(DEFAULT_MAX_CUSTOMERS),
            start: TriggerPayload::parse_rest(&object, Vec::new())?,
        })
    }

    /// The payload that starts the flow for some of the customers.
    #[must_use]
    pub fn payload(self, target_user_ids: Vec<String>) -> TriggerPayload {
        TriggerPayload {
            target_user_ids,
            ..self.start
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn assert_mistakes<T: std::fmt::Debug>(
        parse: impl Fn(&Value) -> Result<T, Error>,
        cases: &[(Value, &str, &str)],
    ) {
        for (json, path, message) in cases {
            let error = parse(json).expect_err("must be refused");
            assert_eq!(
                (error.path.as_str(), error.to_string().as_str()),
                (*path, *message)
            );
        }
    }

    #[test]
    fn an_audience_is_a_segment_a_rule_or_users() {
        assert_eq!(
            Audience::parse(&json!({"segment": "vip"})),
            Ok(Audience::Segment("vip".to_owned()))
        );
        assert_eq!(
            Audience::parse(&json!({"rule": {"all": []}, "relation": "public.customers"})),
            Ok(Audience::Rule {
                rule: json!({"all": []}),
                relation: Some("public.customers".to_owned())
            })
        );
        assert_eq!(
            Audience::parse(&json!({"users": ["1", "2", "1", 3]})),
            Ok(Audience::Users(vec![
                "1".to_owned(),
                "2".to_owned(),
                "3".to_owned()
            ]))
        );
    }

    #[test]
    fn a_mistake_in_an_audience_names_its_place() {
        assert_mistakes(
            Audience::parse,
            &[
                (
                    json!("vip"),
                    "$",
                    "invalid audience: expected an object, got a string",
                ),
                (json!({}), "$", "invalid audience: it names nobody"),
                (
                    json!({"segment": null}),
                    "$",
                    "invalid audience: it names nobody",
                ),
                (
                    json!({"segment": "vip", "users": ["1"]}),
                    "$",
                    "invalid audience: it has more than one kind",
                ),
                (
                    json!({"segments": ["vip"]}),
                    "$",
                    "invalid audience: unknown key \"segments\"",
                ),
                (
                    json!({"segment": ["vip"]}),
                    "$.segment",
                    "invalid audience: expected a string, got an array",
                ),
                (
                    json!({"segment": "vip", "relation": "customers"}),
                    "$.relation",
                    "invalid audience: \"relation\" belongs to a rule",
                ),
                (
                    json!({"rule": {}, "relation": 7}),
                    "$.relation",
                    "invalid audience: expected a string, got a number",
                ),
                (
                    json!({"users": "1"}),
                    "$.users",
                    "invalid audience: expected an array of user ids, got a string",
                ),
                (
                    json!({"users": []}),
                    "$.users",
                    "invalid audience: the list of targets is empty",
                ),
                (
                    json!({"users": ["1", ""]}),
                    "$.users[1]",
                    "invalid audience: an id is empty",
                ),
            ],
        );
    }

    #[test]
    fn options_become_the_payload_of_every_start() {
        let options =
            json!({"flowInvocationId": "spring", "variables": {"a": 1}, "metadata": {"by": "ana"}});
        let options = Options::parse(&options).expect("valid");
        assert_eq!(options.max_customers, 100_000);
        let payload = options.payload(vec!["7".to_owned()]);
        assert_eq!(payload.target_user_ids, ["7"]);
        assert_eq!(payload.flow_invocation_id.as_deref(), Some("spring"));
        assert_eq!(json!(payload.variables), json!({"a": 1}));
        assert_eq!(json!(payload.notification_detail), json!({}));
        assert_eq!(json!(payload.metadata), json!({"by": "ana"}));
    }

    #[test]
    fn a_mistake_in_the_options_names_its_place() {
        assert_mistakes(
            Options::parse,
            &[
                (
                    json!({"max_customers": 0}),
                    "$.max_customers",
                    "invalid bulk job options: 0 is out of range",
                ),
                (
                    json!({"max_customers": 1_000_001}),
                    "$.max_customers",
                    "invalid bulk job options: 1000001 is out of range",
                ),
                (
                    json!({"max_customers": "10"}),
                    "$.max_customers",
                    "invalid bulk job options: expected a whole number, got a string",
                ),
                (
                    json!({"targetUserIds": ["1"]}),
                    "$",
                    "invalid bulk job options: unknown key \"targetUserIds\"",
                ),
                (
                    json!({"variables": []}),
                    "$.variables",
                    "invalid bulk job options: expected an object, got an array",
                ),
                (
                    json!({"flowInvocationId": ""}),
                    "$.flowInvocationId",
                    "invalid bulk job options: an id is empty",
                ),
            ],
        );
    }
}
