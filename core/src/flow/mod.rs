//! Flow definitions: variables and the actions that run in order.

mod action;

use serde_json::{Map, Value};

pub use action::{Action, ActionKind, Cache, Enrich, OnFailure};

use crate::input::{Error, Kind, Object, Place};

const SUBJECT: &str = "flow definition";
/// A definition with more is a mistake rather than a need, and each action costs every start.
const MAX_ACTIONS: usize = 50;

/// A flow definition that has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Declared variables in the order given.
    pub variables: Vec<Variable>,
    /// Actions in the order in which they run.
    pub actions: Vec<Action>,
}

/// A declared variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// The key under `variables`.
    pub name: String,
    /// The value when the start gives none.
    pub default: Option<Value>,
    /// Whether a start without it is refused.
    pub is_required: bool,
}

/// Why a run cannot have its variables.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("required variable \"{0}\" is missing")]
pub struct MissingVariable(pub String);

impl Definition {
    /// Parses and checks a definition.
    ///
    /// # Errors
    /// When a key is unknown, a type is wrong, or a name is empty or used twice.
    pub fn parse(json: &Value) -> Result<Self, Error> {
        let object = Object::read(Place::root(SUBJECT), json, &["variables", "actions"])?;
        let variables = match object.get("variables") {
            None => Vec::new(),
            Some((value, place)) => parse_variables(value, &place)?,
        };
        let (actions, place) = object.require("actions")?;
        Ok(Self {
            variables,
            actions: parse_actions(actions, &place)?,
        })
    }

    fn is_answer(&self, variable: &str) -> bool {
        let mut actions = self.actions.iter();
        actions
            .any(|action| action.name == variable && matches!(action.kind, ActionKind::Enrich(_)))
    }

    /// Whether whoever causes a run waits for an answer.
    #[must_use]
    pub fn begins_with_enrich(&self) -> bool {
        let first = self.actions.first();
        first.is_some_and(|action| matches!(action.kind, ActionKind::Enrich(_)))
    }

    /// The variables of a run: what the start gives, over the defaults. The name of an enrich action is its answer's: what the
    /// start gives under it could be taken for one.
    ///
    /// # Errors
    /// When a required variable has neither.
    pub fn run_variables(
        &self,
        given: &Map<String, Value>,
    ) -> Result<Map<String, Value>, MissingVariable> {
        let mut variables = given.clone();
        variables.retain(|name, _| !self.is_answer(name));
        for variable in &self.variables {
            if variables.contains_key(&variable.name) {
                continue;
            }
            if let Some(default) = &variable.default {
                variables.insert(variable.name.clone(), default.clone());
            } else if variable.is_required {
                return Err(MissingVariable(variable.name.clone()));
            }
        }
        Ok(variables)
    }
}

/// Checks the options of an event trigger.
///
/// The target is the event's customer and the variables are its properties.
///
/// # Errors
/// When a key is unknown, or asks for something that this version does not do.
pub fn check_event_trigger_options(json: &Value) -> Result<(), Error> {
    let object = Object::read(
        Place::root("event trigger options"),
        json,
        &["mapping", "where"],
    )?;
    for key in ["mapping", "where"] {
        if let Some((_, place)) = object.get(key) {
            return Err(place.error(Kind::Unsupported(format!("\"{key}\" of an event trigger"))));
        }
    }
    Ok(())
}

fn parse_variables(value: &Value, place: &Place) -> Result<Vec<Variable>, Error> {
    let map = value
        .as_object()
        .ok_or_else(|| place.wrong_type("an object", value))?;
    map.iter()
        .map(|(name, declaration)| {
            let object = Object::read(place.key(name), declaration, &["default", "required"])?;
            Ok(Variable {
                name: name.clone(),
                default: object.get("default").map(|(value, _)| value.clone()),
                is_required: object.flag("required")?.unwrap_or(false),
            })
        })
        .collect()
}

fn parse_actions(value: &Value, place: &Place) -> Result<Vec<Action>, Error> {
    let list = value
        .as_array()
        .ok_or_else(|| place.wrong_type("an array of actions", value))?;
    if list.len() > MAX_ACTIONS {
        return Err(place.error(Kind::TooLarge {
            what: "the number of actions",
            limit: MAX_ACTIONS.to_string(),
        }));
    }
    let mut actions: Vec<Action> = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let action = action::parse(value, place.index(index))?;
        if actions.iter().any(|earlier| earlier.name == action.name) {
            return Err(place.index(index).key("name").unusable(
                format!("action name \"{}\" is used twice", action.name),
                "Give every action of a flow a name of its own.",
            ));
        }
        actions.push(action);
    }
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(definition: &Value) -> (String, String) {
        let error = Definition::parse(definition).expect_err("must be refused");
        (error.to_string(), error.path)
    }

    #[test]
    fn a_mistake_is_named_with_its_path() {
        let cases = [
            (
                json!([]),
                "invalid flow definition: expected an object, got an array",
                "$",
            ),
            (
                json!({}),
                "invalid flow definition: key \"actions\" is missing",
                "$",
            ),
            (
                json!({"actions": [], "x": 1}),
                "invalid flow definition: unknown key \"x\"",
                "$",
            ),
            (
                json!({"actions": [{"name": "a", "type": "notify", "endpoints": ["e"], "retries": 3}]}),
                "invalid flow definition: unknown key \"retries\"",
                "$.actions[0]",
            ),
            (
                json!({"actions": [{"name": "a", "type": "mail"}]}),
                "invalid flow definition: unknown action type \"mail\"",
                "$.actions[0].type",
            ),
            (
                json!({"actions": [{"name": "a", "type": "notify", "endpoints": []}]}),
                "invalid flow definition: the list of endpoints is empty",
                "$.actions[0].endpoints",
            ),
            (
                json!({"actions": [], "variables": {"a b": {"required": "yes"}}}),
                "invalid flow definition: expected true or false, got a string",
                "$.variables[\"a b\"].required",
            ),
        ];
        for (definition, text, path) in cases {
            assert_eq!(message(&definition), (text.to_owned(), path.to_owned()));
        }
    }

    #[test]
    fn a_given_variable_goes_over_the_default_and_a_required_one_must_be_given() {
        let definition = Definition::parse(&json!({
            "variables": {"first_name": {"default": "there"}, "coupon": {"required": true}}, "actions": []
        }))
        .expect("valid");
        let given = json!({"coupon": "X", "other": 1});
        let variables = definition
            .run_variables(given.as_object().expect("object"))
            .expect("complete");
        assert_eq!(
            Value::Object(variables),
            json!({"first_name": "there", "coupon": "X", "other": 1})
        );
        assert_eq!(
            definition.run_variables(&Map::new()),
            Err(MissingVariable("coupon".to_owned()))
        );
    }

    #[test]
    fn the_variable_of_an_answer_cannot_be_given_but_may_have_a_default() {
        let definition = Definition::parse(&json!({
            "variables": {"risk": {"default": {"score": 50}}},
            "actions": [{"name": "risk", "type": "enrich", "endpoint": "e"}, {"name": "ask", "type": "enrich", "endpoint": "e"}]
        }))
        .expect("valid");
        let given = json!({"risk": {"score": 0}, "ask": 1, "ip": "x"});
        let variables = definition.run_variables(given.as_object().expect("object"));
        assert_eq!(
            variables.map(Value::Object),
            Ok(json!({"risk": {"score": 50}, "ip": "x"}))
        );
    }
}
