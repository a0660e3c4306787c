//! The test of a condition: which operators a type has, and what values they compare with.

use actionflow_core::segment::rule::{Condition as RuleCondition, Op};
use actionflow_core::segment::{duration, moment};
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::condition::{Constant, Limit, Test, TextTest};
use crate::error::Error;
use crate::pg::jsonb::JsonType;
use crate::pg::types::{DataType, Kind};

/// Where the values of a rule come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    /// From people.
    Checked,
    /// From a rule that has been checked.
    Trusted,
}

/// Binds one condition.
struct Binder<'a> {
    condition: &'a RuleCondition,
    data_type: &'a DataType,
    values: Values,
}

/// The test that a condition makes, and its value in the form that every session reads alike. `op` is never a negation.
pub(crate) fn bind(
    condition: &RuleCondition,
    op: Op,
    data_type: &DataType,
    values: Values,
) -> Result<(Test, Value), Error> {
    let binder = Binder {
        condition,
        data_type,
        values,
    };
    let value = &condition.value;
    match op {
        Op::Exists => Ok((Test::Exists, Value::Null)),
        Op::Eq => binder.one_of(std::slice::from_ref(value)),
        Op::In => binder.one_of(list(value)),
        Op::Lt => binder.range(None, Some((value, false))),
        Op::Lte => binder.range(None, Some((value, true))),
        Op::Gt => binder.range(Some((value, false)), None),
        Op::Gte => binder.range(Some((value, true)), None),
        Op::Between => match list(value) {
            [least, greatest] => binder.range(Some((least, true)), Some((greatest, true))),
            _ => Err(Error::Internal("\"between\" without two values".to_owned())),
        },
        Op::Before | Op::After | Op::On => binder.time(op),
        Op::Contains => binder.text(TextTest::Contains),
        Op::StartsWith => binder.text(TextTest::StartsWith),
        Op::EndsWith => binder.text(TextTest::EndsWith),
        Op::WithinLast | Op::WithinNext => binder.within(op),
        Op::HasAny | Op::HasAll => binder.array(op),
        Op::Ne | Op::NotIn | Op::NotContains | Op::NotExists | Op::NotWithinLast | Op::HasNone => {
            Err(Error::Internal(
                "a negated operator was not turned round".to_owned(),
            ))
        }
    }
}

/// The text form of a duration.
pub(crate) fn duration_text(microseconds: i64) -> String {
    format!(
        "PT{}.{:06}S",
        microseconds / 1_000_000,
        microseconds % 1_000_000
    )
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

impl Binder<'_> {
    fn wrong_type(&self, hint: &'static str) -> Error {
        Error::OperatorType {
            op: self.condition.op.name(),
            attribute: self.condition.attribute.clone(),
            type_name: self.data_type.display_name(),
            path: self.condition.place.key("op").path().to_owned(),
            hint,
        }
    }

    fn does_not_fit(&self, value: &Value) -> Error {
        let message = format!(
            "value {value} does not fit type {}",
            self.data_type.display_name()
        );
        let hint = "Give a value of the attribute's type, as text if JSON has no such type.";
        self.condition
            .place
            .key("value")
            .unusable(message, hint)
            .into()
    }

    fn is_json(&self) -> bool {
        self.data_type.kind() == Kind::Jsonb
    }

    fn one_of(&self, values: &[Value]) -> Result<(Test, Value), Error> {
        if !self.data_type.has_equality() {
            return Err(self.wrong_type("Values of this type cannot be compared; use \"exists\"."));
        }
        let (constants, json): (Vec<_>, Vec<_>) = values
            .iter()
            .map(|value| self.constant(value, self.data_type))
            .collect::<Result<Vec<_>, Error>>()?
            .into_iter()
            .unzip();
        Ok((Test::OneOf(constants), self.in_the_shape_of_the_value(json)))
    }

    /// Several values as the list that they came as, one as itself.
    fn in_the_shape_of_the_value(&self, mut json: Vec<Value>) -> Value {
        if self.condition.value.is_array() {
            Value::Array(json)
        } else {
            json.pop().unwrap_or(Value::Null)
        }
    }

    fn range(
        &self,
        lower: Option<(&Value, bool)>,
        upper: Option<(&Value, bool)>,
    ) -> Result<(Test, Value), Error> {
        if !self.data_type.has_order() {
            return Err(self.wrong_type("Values of this type have no order; use \"eq\" or \"in\"."));
        }
        let mut json = Vec::new();
        let mut json_type = None;
        let mut limit = |limit: Option<(&Value, bool)>| -> Result<Option<Limit>, Error> {
            let Some((value, is_inclusive)) = limit else {
                return Ok(None);
            };
            let (constant, canonical) = self.constant(value, self.data_type)?;
            json.push(canonical);
            // Only values of one JSON type are compared, so both limits have it.
            let of_limit = self.is_json().then(|| json_type_of(value));
            if json_type.is_some() && json_type != of_limit {
                return Err(self.does_not_fit(value));
            }
            json_type = of_limit;
            Ok(Some(Limit {
                constant,
                is_inclusive,
            }))
        };
        let (lower, upper) = (limit(lower)?, limit(upper)?);
        let test = Test::Range {
            lower,
            upper,
            json_type,
        };
        Ok((test, self.in_the_shape_of_the_value(json)))
    }

    fn time(&self, op: Op) -> Result<(Test, Value), Error> {
        let value = &self.condition.value;
        let text = value.as_str().unwrap_or_default();
        let is_date = moment::is_date(text);
        let at = moment::parse(text).ok_or_else(|| {
            self.condition.place.key("value").unusable(
                format!("value {value} is no date or time"),
                "Give an ISO 8601 date such as \"2024-03-01\", or a date and time; without an offset it is UTC.",
            )
        })?;
        if op == Op::On && !is_date {
            return Err(self
                .condition
                .place
                .key("value")
                .unusable(
                    format!("value {value} is no date"),
                    "Give an ISO 8601 date such as \"2024-03-01\".",
                )
                .into());
        }
        let next_day = at.saturating_add(moment::DAY_US);
        let test = match (self.data_type.kind(), op) {
            (Kind::Jsonb, Op::Before) => Test::Moment {
                from: None,
                to: Some(at),
            },
            (Kind::Jsonb, Op::After) => Test::Moment {
                from: Some(at.saturating_add(1)),
                to: None,
            },
            (Kind::Jsonb, _) => Test::Moment {
                from: Some(at),
                to: Some(next_day),
            },
            (Kind::Date, _) if !is_date => return Err(self.does_not_fit(value)),
            (Kind::Date, Op::On) => Test::OneOf(vec![self.moment(at)]),
            (Kind::Date | Kind::Timestamp | Kind::TimestampTz, _) => Test::Range {
                lower: (op != Op::Before).then(|| Limit {
                    constant: self.moment(at),
                    is_inclusive: op == Op::On,
                }),
                upper: (op != Op::After).then(|| Limit {
                    constant: self.moment(if op == Op::On { next_day } else { at }),
                    is_inclusive: false,
                }),
                json_type: None,
            },
            _ => return Err(self.wrong_type("Use it on a date or a time.")),
        };
        Ok((test, json!(text)))
    }

    /// A moment as a value of a date or timestamp type; its text means the same in every session.
    fn moment(&self, at: i64) -> Constant {
        let zoned = moment::text(at);
        let text = match self.data_type.kind() {
            Kind::TimestampTz => zoned,
            Kind::Date => zoned.chars().take(10).collect(),
            _ => zoned.trim_end_matches('Z').to_owned(),
        };
        let value = self.data_type.read(&text);
        Constant { text, value }
    }

    fn text(&self, test: TextTest) -> Result<(Test, Value), Error> {
        if !matches!(self.data_type.kind(), Kind::Text | Kind::Jsonb) {
            return Err(self.wrong_type("Use it on text."));
        }
        let text = self.condition.value.as_str().unwrap_or_default();
        if text.contains('\0') {
            return Err(self.does_not_fit(&self.condition.value));
        }
        Ok((Test::Text(test, text.to_owned()), json!(text)))
    }

    fn within(&self, op: Op) -> Result<(Test, Value), Error> {
        if !matches!(
            self.data_type.kind(),
            Kind::Date | Kind::Timestamp | Kind::TimestampTz | Kind::Jsonb
        ) {
            return Err(self.wrong_type("Use it on a date or a time."));
        }
        let text = self.condition.value.as_str().unwrap_or_default();
        let duration = duration::parse(text)
            .ok_or_else(|| Error::Internal("an unusable duration was not refused".to_owned()))?;
        let test = match op {
            Op::WithinNext => Test::WithinNext(duration),
            _ => Test::WithinLast(duration),
        };
        Ok((test, json!(duration_text(duration))))
    }

    fn array(&self, op: Op) -> Result<(Test, Value), Error> {
        let element = match self.data_type.kind() {
            Kind::Jsonb => None,
            Kind::Array => Some(self.data_type.element()),
            _ => return Err(self.wrong_type("Use it on an array.")),
        };
        if element
            .as_ref()
            .is_some_and(|element| !element.has_equality())
        {
            return Err(self.wrong_type("Values of this type cannot be compared; use \"exists\"."));
        }
        let mut constants = Vec::new();
        let mut json = Vec::new();
        for value in list(&self.condition.value) {
            let (text, canonical) = match &element {
                None => (json!([value]).to_string(), value.clone()),
                Some(element) => {
                    let text = self.canonical(value, element)?;
                    (array_literal(&text), json!(text))
                }
            };
            let value = self.data_type.read(&text);
            constants.push(Constant { text, value });
            json.push(canonical);
        }
        let test = match op {
            Op::HasAll => Test::HasAll(constants),
            _ => Test::HasAny(constants),
        };
        Ok((test, Value::Array(json)))
    }

    fn constant(&self, value: &Value, data_type: &DataType) -> Result<(Constant, Value), Error> {
        let (text, json) = if self.is_json() {
            if value.as_str().is_some_and(|text| text.contains('\0')) {
                return Err(self.does_not_fit(value));
            }
            (value.to_string(), value.clone())
        } else {
            let text = self.canonical(value, data_type)?;
            (text.clone(), json!(text))
        };
        let value = data_type.read(&text);
        Ok((Constant { text, value }, json))
    }

    /// The text of a value as its type writes it, in UTC and ISO style.
    fn canonical(&self, value: &Value, data_type: &DataType) -> Result<String, Error> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) if data_type.is_numeric() => value.to_string(),
            Value::Bool(_) if data_type.oid == pg_sys::BOOLOID => value.to_string(),
            _ => return Err(self.does_not_fit(value)),
        };
        if self.values == Values::Trusted {
            return Ok(text);
        }
        if text.contains('\0') {
            return Err(self.does_not_fit(value));
        }
        Spi::get_one_with_args::<String>(
            "select actionflow._canonical_value($1, $2)",
            &[data_type.declared.into(), text.into()],
        )?
        .ok_or_else(|| self.does_not_fit(value))
    }
}

fn json_type_of(value: &Value) -> JsonType {
    match value {
        Value::String(_) => JsonType::Text,
        Value::Bool(_) => JsonType::Boolean,
        _ => JsonType::Number,
    }
}

/// An array of one element as Postgres reads it.
fn array_literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{{\"{escaped}\"}}")
}
