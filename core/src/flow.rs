//! Flow definitions: variables and the actions that run in order.

use serde_json::{Map, Value};

use crate::input::{Error, Kind, Object, Place};

const SUBJECT: &str = "flow definition";
/// A definition with more is a mistake rather than a need, and each action costs every start.
const MAX_ACTIONS: usize = 50;
const MAX_ENDPOINTS_OF_ACTION: usize = 50;

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

/// A step of a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Unique within the flow.
    pub name: String,
    /// Endpoint names with their paths in the definition, each once.
    pub endpoints: Vec<(String, String)>,
    /// Whether the next action starts only when every delivery has been made.
    pub waits: bool,
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

    /// The variables of a run: what the start gives, over the defaults.
    ///
    /// # Errors
    /// When a required variable has neither.
    pub fn run_variables(
        &self,
        given: &Map<String, Value>,
    ) -> Result<Map<String, Value>, MissingVariable> {
        let mut variables = given.clone();
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
        let action = parse_action(value, place.index(index))?;
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

fn parse_action(value: &Value, place: Place) -> Result<Action, Error> {
    let kind_place = place.key("type");
    let kind = value
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let object = match kind {
        "enrich" => {
            return Err(kind_place.error(Kind::Unsupported("an \"enrich\" action".to_owned())));
        }
        "notify" => Object::read(
            place,
            value,
            &["name", "type", "endpoints", "endpoint", "wait"],
        )?,
        _ if value.get("type").is_none() => {
            Object::read(
                place.clone(),
                value,
                &["name", "type", "endpoints", "endpoint", "wait"],
            )?;
            return Err(place.error(Kind::MissingKey("type")));
        }
        other => {
            return Err(kind_place.unusable(
                format!("unknown action type \"{other}\""),
                "Use one of: notify.",
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
        waits: object.flag("wait")?.unwrap_or(false),
    })
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
}
