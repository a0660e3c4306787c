//! Reading rules from JSON: every key is known, every value has the shape that its operator needs, and nothing is too large.

use std::str::FromStr;

use serde_json::Value;

use super::duration;
use super::rule::{Condition, EventCondition, MAX_CONDITIONS, OPS, Op, Rule, Sum, property_path};
use super::window::Comparison;
use crate::input::{Error, Kind, Object, Place};

const SUBJECT: &str = "segment rule";
/// Deeper than anybody writes by hand, and far from what the stack holds.
const MAX_DEPTH: usize = 32;
/// Of one list, such as that of `in`.
const MAX_VALUES: usize = 1_000;
const MAX_PROPERTY_CONDITIONS: usize = 20;

pub(super) fn parse(json: &Value) -> Result<Rule, Error> {
    let mut conditions = 0;
    parse_rule(json, Place::root(SUBJECT), 0, &mut conditions)
}

fn parse_rule(
    json: &Value,
    place: Place,
    depth: usize,
    conditions: &mut usize,
) -> Result<Rule, Error> {
    const KEYS: &[&str] = &["all", "any", "not", "attribute", "event", "segment"];
    if depth > MAX_DEPTH {
        return Err(too_large(&place, "the depth of the rule", MAX_DEPTH));
    }
    let object = json
        .as_object()
        .ok_or_else(|| place.wrong_type("an object", json))?;
    let mut parts = |key: &'static str| -> Result<Vec<Rule>, Error> {
        let object = Object::read(place.clone(), json, &["all", "any"])?;
        let (value, place) = object.require(key)?;
        if object.get("all").is_some() && object.get("any").is_some() {
            return Err(object.place.unusable(
                "\"all\" and \"any\" are both given",
                "Put one inside the other.",
            ));
        }
        let list = value
            .as_array()
            .ok_or_else(|| place.wrong_type("an array of rules", value))?;
        if list.is_empty() {
            return Err(place.unusable("the list of rules is empty", "Give at least one rule."));
        }
        list.iter()
            .enumerate()
            .map(|(index, rule)| parse_rule(rule, place.index(index), depth + 1, conditions))
            .collect()
    };
    if object.contains_key("all") {
        return Ok(Rule::All(parts("all")?));
    }
    if object.contains_key("any") {
        return Ok(Rule::Any(parts("any")?));
    }
    if object.contains_key("not") {
        let object = Object::read(place, json, &["not"])?;
        let (value, place) = object.require("not")?;
        let rule = parse_rule(value, place, depth + 1, conditions)?;
        return Ok(Rule::Not(Box::new(rule)));
    }
    *conditions += 1;
    if *conditions > MAX_CONDITIONS {
        return Err(too_large(
            &place,
            "the number of conditions",
            MAX_CONDITIONS,
        ));
    }
    if object.contains_key("attribute") {
        return Ok(Rule::Attribute(parse_condition(json, place)?));
    }
    if object.contains_key("event") {
        return Ok(Rule::Event(parse_event(json, place)?));
    }
    let object = Object::read(place, json, KEYS)?;
    match object.text("segment")? {
        Some(name) => Ok(Rule::Segment {
            name: name.to_owned(),
            place: object.place.key("segment"),
        }),
        None => Err(object.place.unusable(
            "it holds no condition",
            "Give one of the keys: all, any, not, attribute, event, segment.",
        )),
    }
}

fn parse_condition(json: &Value, place: Place) -> Result<Condition, Error> {
    let object = Object::read(place, json, &["attribute", "op", "value"])?;
    let (_, attribute_place) = object.require("attribute")?;
    let attribute = object.text("attribute")?.unwrap_or_default();
    if attribute.is_empty() || attribute.len() > 500 {
        return Err(attribute_place.unusable(
            "the attribute has no usable name",
            "Name a column, or a path into a jsonb column.",
        ));
    }
    let (_, op_place) = object.require("op")?;
    let name = object.text("op")?.unwrap_or_default();
    let op = Op::from_str(name)
        .map_err(|()| op_place.unusable(format!("unknown operator \"{name}\""), OPS))?;
    Ok(Condition {
        attribute: attribute.to_owned(),
        op,
        value: checked_value(&object, op)?,
        place: object.place,
    })
}

/// The value of a condition, when it has the shape that the operator needs.
fn checked_value(object: &Object<'_>, op: Op) -> Result<Value, Error> {
    if matches!(op, Op::Exists | Op::NotExists) {
        return match object.get("value") {
            None => Ok(Value::Null),
            Some((_, place)) => Err(place.unusable(
                format!("operator \"{}\" takes no value", op.name()),
                "Leave \"value\" out.",
            )),
        };
    }
    let (value, place) = object.require("value")?;
    match op {
        Op::In | Op::NotIn | Op::HasAny | Op::HasAll | Op::HasNone => {
            let list = scalars(value, &place)?;
            if list.is_empty() {
                return Err(place.unusable("the list is empty", "Give at least one value."));
            }
            if list.len() > MAX_VALUES {
                return Err(too_large(&place, "the number of values", MAX_VALUES));
            }
        }
        Op::Between => {
            if scalars(value, &place)?.len() != 2 {
                return Err(place.unusable(
                    "\"between\" takes a list of two values",
                    "Give the least and the greatest value.",
                ));
            }
        }
        Op::WithinLast | Op::NotWithinLast | Op::WithinNext => {
            duration_of(value, &place)?;
        }
        Op::Contains
        | Op::NotContains
        | Op::StartsWith
        | Op::EndsWith
        | Op::Before
        | Op::After
        | Op::On => {
            value
                .as_str()
                .ok_or_else(|| place.wrong_type("a string", value))?;
        }
        _ => check_scalar(value, &place)?,
    }
    Ok(value.clone())
}

fn check_scalar(value: &Value, place: &Place) -> Result<(), Error> {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(()),
        other => Err(place.wrong_type("a string, a number or a boolean", other)),
    }
}

fn scalars<'a>(value: &'a Value, place: &Place) -> Result<&'a [Value], Error> {
    let list = value
        .as_array()
        .ok_or_else(|| place.wrong_type("an array of values", value))?;
    for (index, value) in list.iter().enumerate() {
        check_scalar(value, &place.index(index))?;
    }
    Ok(list)
}

/// A duration in microseconds.
fn duration_of(value: &Value, place: &Place) -> Result<i64, Error> {
    let text = value
        .as_str()
        .ok_or_else(|| place.wrong_type("a duration", value))?;
    duration::parse(text).ok_or_else(|| {
        place.unusable(
            format!("unusable duration {value}"),
            "Give a positive duration of at most 100 years, such as \"30 days\" or \"PT12H\".",
        )
    })
}

fn parse_event(json: &Value, place: Place) -> Result<EventCondition, Error> {
    let object = Object::read(
        place,
        json,
        &["event", "count", "sum", "within_last", "where"],
    )?;
    let (_, name_place) = object.require("event")?;
    let name = object.text("event")?.unwrap_or_default();
    if name.is_empty() || name.chars().count() > 100 {
        return Err(name_place.unusable("the event has no usable name", "Use 1 to 100 characters."));
    }
    let sum = parse_sum(&object)?;
    let count = match object.get("count") {
        Some((value, place)) => parse_count(value, &place)?,
        None if sum.is_some() => Vec::new(),
        None => vec![(Comparison::Gte, 1)],
    };
    let within_us = match object.get("within_last") {
        None => None,
        Some((value, place)) => Some(duration_of(value, &place)?),
    };
    Ok(EventCondition {
        name: name.to_owned(),
        count,
        sum,
        within_us,
        filters: parse_filters(&object)?,
    })
}

fn parse_count(value: &Value, place: &Place) -> Result<Vec<(Comparison, i64)>, Error> {
    comparisons(value, place)?
        .into_iter()
        .map(|(comparison, value, place)| {
            let number = value
                .as_i64()
                .filter(|number| (0..=1_000_000_000).contains(number))
                .ok_or_else(|| {
                    place.unusable(
                        format!("a count cannot be compared with {value}"),
                        "Give a whole number from 0 to 1000000000.",
                    )
                })?;
            Ok((comparison, number))
        })
        .collect()
}

fn parse_sum(object: &Object<'_>) -> Result<Option<Sum>, Error> {
    let Some((value, place)) = object.get("sum") else {
        return Ok(None);
    };
    let map = value
        .as_object()
        .ok_or_else(|| place.wrong_type("an object", value))?;
    let mut bounds = map.clone();
    let of = bounds
        .remove("of")
        .ok_or_else(|| place.error(Kind::MissingKey("of")))?;
    let of_place = place.key("of");
    let of = of
        .as_str()
        .ok_or_else(|| of_place.wrong_type("a path into the properties", &of))?;
    let path = property_path(of, &of_place)?;
    let bounds = Value::Object(bounds);
    let bounds = comparisons(&bounds, &place)?
        .into_iter()
        .map(|(comparison, value, place)| match value {
            Value::Number(number) => Ok((comparison, number.to_string())),
            other => Err(place.wrong_type("a number", other)),
        })
        .collect::<Result<_, Error>>()?;
    Ok(Some(Sum { of: path, bounds }))
}

fn comparisons<'a>(
    value: &'a Value,
    place: &Place,
) -> Result<Vec<(Comparison, &'a Value, Place)>, Error> {
    const KEYS: &[&str] = &["eq", "ne", "gt", "gte", "lt", "lte"];
    let map = value
        .as_object()
        .ok_or_else(|| place.wrong_type("an object such as {\"gte\": 3}", value))?;
    if map.is_empty() {
        return Err(place.unusable(
            "nothing is compared",
            "Give one of: eq, ne, gt, gte, lt, lte.",
        ));
    }
    map.iter()
        .map(|(key, value)| {
            let comparison = Comparison::parse(key).ok_or_else(|| {
                place.error(Kind::UnknownKey {
                    key: key.clone(),
                    allowed: KEYS,
                })
            })?;
            Ok((comparison, value, place.key(key)))
        })
        .collect()
}

fn parse_filters(object: &Object<'_>) -> Result<Vec<Condition>, Error> {
    let Some((value, place)) = object.get("where") else {
        return Ok(Vec::new());
    };
    let list = value
        .as_array()
        .ok_or_else(|| place.wrong_type("an array of conditions", value))?;
    if list.len() > MAX_PROPERTY_CONDITIONS {
        return Err(too_large(
            &place,
            "the number of property conditions",
            MAX_PROPERTY_CONDITIONS,
        ));
    }
    list.iter()
        .enumerate()
        .map(|(index, value)| {
            let place = place.index(index);
            let condition = parse_condition(value, place.clone())?;
            property_path(&condition.attribute, &place.key("attribute"))?;
            if condition.op.is_timed() {
                return Err(place.key("op").unusable(
                    format!("operator \"{}\" cannot filter events", condition.op.name()),
                    "Use \"within_last\" beside \"event\" for a window of time.",
                ));
            }
            Ok(condition)
        })
        .collect()
}

fn too_large(place: &Place, what: &'static str, limit: usize) -> Error {
    place.error(Kind::TooLarge {
        what,
        limit: limit.to_string(),
    })
}
