//! Mappings without code: every part of the trigger payload is found by a query, or constant.

use serde_json::{Map, Value};

use super::query::Query;
use super::{Failure, MAX_RESULT_BYTES, Wanted};
use crate::input::{Error, Kind, Object, Place};
use crate::json_size::json_bytes;
use crate::payload::parse_targets;

const KEYS: &[&str] = &[
    "kind",
    "targetUserIds",
    "flowInvocationId",
    "variables",
    "notificationDetail",
    "metadata",
];
/// The parts that are objects.
const PARTS: [&str; 3] = ["variables", "notificationDetail", "metadata"];
const CONST: &[&str] = &["const"];
const SPEC: &str = "a JSONPath query or {\"const\": …}";
const MAX_SPECS: usize = 1_000;

/// A mapping of kind `fields`.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    targets: Vec<Spec>,
    invocation: Option<Spec>,
    parts: Vec<(&'static str, Part)>,
    wanted: Wanted,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
enum Spec {
    Const(Value),
    Query(Query),
}

#[derive(Debug, Clone)]
enum Part {
    /// One query, which finds the whole object.
    Whole(Query),
    Named(Vec<(String, Spec)>),
}

impl Fields {
    pub(super) fn parse(place: Place, json: &Value) -> Result<Self, Error> {
        let object = Object::read(place, json, KEYS)?;
        let (targets, targets_place) = object.require("targetUserIds")?;
        let targets = parse_target_specs(targets, &targets_place)?;
        let invocation = object
            .get("flowInvocationId")
            .map(|(value, place)| parse_invocation(value, &place))
            .transpose()?;
        let mut parts = Vec::new();
        for name in PARTS {
            if let Some((value, place)) = object.get(name) {
                parts.push((name, Part::parse(value, &place)?));
            }
        }
        let mut fields = Self {
            targets,
            invocation,
            parts,
            wanted: Wanted::NOTHING,
        };
        let mut wanted = Wanted::NOTHING;
        for query in fields.queries() {
            wanted.add(query.start());
        }
        fields.wanted = wanted;
        Ok(fields)
    }

    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    fn queries(&self) -> impl Iterator<Item = &Query> {
        let whole = self.parts.iter().filter_map(|(_, part)| match part {
            Part::Whole(query) => Some(query),
            Part::Named(_) => None,
        });
        let named = self.parts.iter().flat_map(|(_, part)| match part {
            Part::Whole(_) => &[],
            Part::Named(specs) => specs.as_slice(),
        });
        let specs = named.map(|(_, spec)| spec).chain(&self.targets);
        specs
            .chain(&self.invocation)
            .filter_map(Spec::query)
            .chain(whole)
    }

    pub(super) fn apply(&self, payload: &Value) -> Result<Value, Failure> {
        let mut copier = Copier {
            left: MAX_RESULT_BYTES,
        };
        let mut result = Map::new();
        let targets = self.targets(payload, &mut copier)?;
        result.insert("targetUserIds".to_owned(), Value::Array(targets));
        if let Some(spec) = &self.invocation
            && let Some(value) = copier.value(spec, payload, "$.flowInvocationId")?
        {
            result.insert("flowInvocationId".to_owned(), value);
        }
        for (name, part) in &self.parts {
            let value = match part {
                Part::Whole(query) => copier.whole(query, payload, name)?,
                Part::Named(specs) => Some(copier.named(specs, payload, name)?),
            };
            if let Some(value) = value {
                result.insert((*name).to_owned(), value);
            }
        }
        Ok(Value::Object(result))
    }

    /// The targets of all specifications in one list. An array that is found stands for its elements, null for nothing.
    fn targets(&self, payload: &Value, copier: &mut Copier) -> Result<Vec<Value>, Failure> {
        const FIELD: &str = "$.targetUserIds";
        let mut targets = Vec::new();
        let mut found_any = false;
        for spec in &self.targets {
            let found = match spec {
                Spec::Const(value) => vec![value],
                Spec::Query(query) => query
                    .all(payload)
                    .map_err(|failure| Failure::at(FIELD, failure.message))?,
            };
            for value in found.into_iter().filter(|value| !value.is_null()) {
                found_any = true;
                match value {
                    Value::Array(list) => {
                        for value in list {
                            targets.push(copier.copy(value)?);
                        }
                    }
                    one => targets.push(copier.copy(one)?),
                }
            }
        }
        if found_any {
            return Ok(targets);
        }
        let queries: Vec<&str> = self
            .targets
            .iter()
            .filter_map(Spec::query)
            .map(Query::text)
            .collect();
        Err(Failure::at(
            FIELD,
            format!("nothing is found by {}", queries.join(", ")),
        ))
    }
}

impl Spec {
    fn parse(value: &Value, place: &Place) -> Result<Self, Error> {
        match value {
            Value::String(text) => Ok(Self::Query(Query::parse(place, text)?)),
            Value::Object(map) => {
                Object::read(place.clone(), value, CONST)?;
                map.get("const")
                    .map(|value| Self::Const(value.clone()))
                    .ok_or_else(|| place.error(Kind::MissingKey("const")))
            }
            other => Err(place.wrong_type(SPEC, other)),
        }
    }

    fn query(&self) -> Option<&Query> {
        match self {
            Self::Const(_) => None,
            Self::Query(query) => Some(query),
        }
    }
}

impl Part {
    fn parse(value: &Value, place: &Place) -> Result<Self, Error> {
        match value {
            Value::String(text) => Ok(Self::Whole(Query::parse(place, text)?)),
            Value::Object(map) if map.len() > MAX_SPECS => Err(too_many(place)),
            Value::Object(map) => map
                .iter()
                .map(|(name, value)| Ok((name.clone(), Spec::parse(value, &place.key(name))?)))
                .collect::<Result<_, Error>>()
                .map(Self::Named),
            other => Err(place.wrong_type(
                "an object of names, or a JSONPath query that finds one",
                other,
            )),
        }
    }
}

fn too_many(place: &Place) -> Error {
    place.error(Kind::TooLarge {
        what: "the number of values",
        limit: MAX_SPECS.to_string(),
    })
}

fn parse_target_specs(value: &Value, place: &Place) -> Result<Vec<Spec>, Error> {
    match value {
        Value::Array(list) if list.is_empty() => Err(place.unusable(
            "the list of targets is empty",
            "Give a query that finds a user id.",
        )),
        Value::Array(list) if list.len() > MAX_SPECS => Err(too_many(place)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| parse_target_spec(value, &place.index(index)))
            .collect(),
        one => Ok(vec![parse_target_spec(one, place)?]),
    }
}

fn parse_target_spec(value: &Value, place: &Place) -> Result<Spec, Error> {
    let spec = Spec::parse(value, place)?;
    if let Spec::Const(constant) = &spec {
        let place = place.key("const");
        parse_targets(constant, &place).map_err(|error| match constant {
            Value::Array(_) => error,
            _ => place.error(error.kind),
        })?;
    }
    Ok(spec)
}

/// One value, so neither a list by its form nor a constant of another type.
fn parse_invocation(value: &Value, place: &Place) -> Result<Spec, Error> {
    let spec = Spec::parse(value, place)?;
    match &spec {
        Spec::Query(query) if !query.is_singular() => Err(place.unusable(
            format!("{:?} may find more than one value", query.text()),
            "Name one value, without wildcards, slices, filters and descendants.",
        )),
        Spec::Const(constant) if !constant.is_string() => {
            Err(place.key("const").wrong_type("a string", constant))
        }
        _ => Ok(spec),
    }
}

/// Copies what is found, up to the size of a result: many names may find the same large value.
struct Copier {
    left: usize,
}

impl Copier {
    fn copy(&mut self, value: &Value) -> Result<Value, Failure> {
        self.take(json_bytes(value, self.left).ok_or_else(Failure::too_large)?)?;
        Ok(value.clone())
    }

    fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        // One more for the comma or colon beside each.
        self.left = self
            .left
            .checked_sub(bytes + 1)
            .ok_or_else(Failure::too_large)?;
        Ok(())
    }

    /// What a specification gives: the value of a singular query, if there is one; the list of what any other finds.
    fn value(
        &mut self,
        spec: &Spec,
        payload: &Value,
        field: &str,
    ) -> Result<Option<Value>, Failure> {
        match spec {
            Spec::Const(value) => self.copy(value).map(Some),
            Spec::Query(query) if query.is_singular() => {
                query.one(payload).map(|value| self.copy(value)).transpose()
            }
            Spec::Query(query) => query
                .all(payload)
                .map_err(|failure| Failure::at(field, failure.message))?
                .into_iter()
                .map(|value| self.copy(value))
                .collect::<Result<_, _>>()
                .map(|list| Some(Value::Array(list))),
        }
    }

    fn named(
        &mut self,
        specs: &[(String, Spec)],
        payload: &Value,
        part: &str,
    ) -> Result<Value, Failure> {
        let mut object = Map::new();
        for (name, spec) in specs {
            let found = self
                .value(spec, payload, "")
                .map_err(|failure| match failure.field {
                    None => failure,
                    Some(_) => Failure::at(field_path(part, Some(name)), failure.message),
                })?;
            if let Some(value) = found {
                self.take(name.len())?;
                object.insert(name.clone(), value);
            }
        }
        Ok(Value::Object(object))
    }

    fn whole(
        &mut self,
        query: &Query,
        payload: &Value,
        part: &str,
    ) -> Result<Option<Value>, Failure> {
        let field = || field_path(part, None);
        let found = query
            .all(payload)
            .map_err(|failure| Failure::at(field(), failure.message))?;
        match found.as_slice() {
            [] => Ok(None),
            [value @ Value::Object(_)] => self.copy(value).map(Some),
            [_] => Err(Failure::at(
                field(),
                format!("what is found by {} is no object", query.text()),
            )),
            _ => Err(Failure::at(
                field(),
                format!("more than one value is found by {}", query.text()),
            )),
        }
    }
}

fn field_path(part: &str, name: Option<&str>) -> String {
    let place = Place::root("").key(part);
    match name {
        Some(name) => place.key(name).path,
        None => place.path,
    }
}
