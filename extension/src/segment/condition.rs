//! One condition of a rule, bound to the type of what it looks at, and what it says about a value.

use std::cmp::Ordering;
use std::rc::Rc;

use actionflow_core::segment::moment;
use actionflow_core::segment::truth::{self, Truth};
use actionflow_core::segment::window::Comparison;
use pgrx::datum::AnyNumeric;
use pgrx::pg_sys::Datum;

use crate::pg::jsonb::{self, JsonType, Path};
use crate::pg::types::{DataType, Kind, Stored};

/// A condition that is ready to be evaluated.
#[derive(Debug)]
pub(crate) enum Condition {
    Attribute(AttributeCondition),
    Event(EventCondition),
}

/// A condition on a column, or on what stands at a path in one.
#[derive(Debug)]
pub(crate) struct AttributeCondition {
    pub(crate) column: String,
    pub(crate) probe: Probe,
}

/// A condition on a customer's events.
#[derive(Debug)]
pub(crate) struct EventCondition {
    pub(crate) name: String,
    pub(crate) count: Vec<(Comparison, i64)>,
    pub(crate) sum: Vec<(Comparison, AnyNumeric)>,
    pub(crate) sum_of: Option<Path>,
    pub(crate) within_us: Option<i64>,
    /// On the properties; with whether each is negated.
    pub(crate) filters: Vec<(Probe, bool)>,
}

/// A test, and where in the value that it is given its subject stands.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) path: Option<Path>,
    pub(crate) data_type: Rc<DataType>,
    pub(crate) test: Test,
}

/// A value with the text that stands for it in SQL.
#[derive(Debug)]
pub(crate) struct Constant {
    pub(crate) text: String,
    pub(crate) value: Stored,
}

#[derive(Debug)]
pub(crate) enum Test {
    Exists,
    /// Equal to one of these.
    OneOf(Vec<Constant>),
    Range {
        lower: Option<Limit>,
        upper: Option<Limit>,
        /// For jsonb: only values of this type are compared.
        json_type: Option<JsonType>,
    },
    /// A JSON string that is a date or time in `[from, to)`, as microseconds since 1970.
    Moment {
        from: Option<i64>,
        to: Option<i64>,
    },
    Text(TextTest, String),
    WithinLast(i64),
    WithinNext(i64),
    HasAny(Vec<Constant>),
    HasAll(Vec<Constant>),
}

#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) constant: Constant,
    pub(crate) is_inclusive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

impl Probe {
    /// What the condition is about, given the column or the properties that it looks into.
    pub(crate) fn subject(&self, value: Option<Datum>) -> Option<Datum> {
        match &self.path {
            None => value,
            Some(path) => path.find(value?),
        }
    }

    pub(crate) fn truth(&self, value: Option<Datum>, now: i64) -> Truth {
        match self.subject(value) {
            None => Truth::always(false),
            Some(subject) => self.truth_of(subject, now),
        }
    }

    /// The truth for what `subject` has found.
    pub(crate) fn truth_of(&self, value: Datum, now: i64) -> Truth {
        match &self.test {
            Test::WithinLast(duration) => {
                self.moment(value).map_or(Truth::always(false), |moment| {
                    truth::within_last(moment, *duration, now)
                })
            }
            Test::WithinNext(duration) => {
                self.moment(value).map_or(Truth::always(false), |moment| {
                    truth::within_next(moment, *duration, now)
                })
            }
            _ => Truth::always(self.holds(value)),
        }
    }

    /// A date or time as microseconds since 1970; `None` for a JSON value that is none.
    pub(crate) fn moment(&self, value: Datum) -> Option<i64> {
        if self.data_type.kind() == Kind::Jsonb {
            jsonb::with_text(value, |text| moment::parse(std::str::from_utf8(text).ok()?))?
        } else {
            Some(self.data_type.moment(value))
        }
    }

    fn holds(&self, value: Datum) -> bool {
        let data_type = &self.data_type;
        match &self.test {
            Test::Exists => true,
            Test::OneOf(constants) => constants
                .iter()
                .any(|constant| data_type.equals(value, constant.value.datum())),
            Test::Range {
                lower,
                upper,
                json_type,
            } => {
                json_type.is_none_or(|wanted| jsonb::json_type(value) == wanted)
                    && lower
                        .as_ref()
                        .is_none_or(|limit| limit.is_below(value, data_type))
                    && upper
                        .as_ref()
                        .is_none_or(|limit| limit.is_above(value, data_type))
            }
            Test::Moment { from, to } => self.moment(value).is_some_and(|moment| {
                from.is_none_or(|from| moment >= from) && to.is_none_or(|to| moment < to)
            }),
            Test::Text(test, part) => self.holds_text(value, *test, part.as_bytes()),
            Test::HasAny(list) if data_type.kind() == Kind::Jsonb => {
                jsonb::json_type(value) == JsonType::Array
                    && list
                        .iter()
                        .any(|part| jsonb::contains(value, part.value.datum()))
            }
            Test::HasAll(list) if data_type.kind() == Kind::Jsonb => {
                jsonb::json_type(value) == JsonType::Array
                    && list
                        .iter()
                        .all(|part| jsonb::contains(value, part.value.datum()))
            }
            Test::HasAny(list) => list
                .iter()
                .any(|part| data_type.overlaps(value, part.value.datum())),
            Test::HasAll(list) => list
                .iter()
                .all(|part| data_type.contains(value, part.value.datum())),
            Test::WithinLast(_) | Test::WithinNext(_) => false,
        }
    }

    fn holds_text(&self, value: Datum, test: TextTest, part: &[u8]) -> bool {
        let look = |text: &[u8]| match test {
            TextTest::StartsWith => text.starts_with(part),
            TextTest::EndsWith => text.ends_with(part),
            TextTest::Contains => {
                part.is_empty() || text.windows(part.len()).any(|window| window == part)
            }
        };
        if self.data_type.kind() == Kind::Jsonb {
            jsonb::with_text(value, look).unwrap_or(false)
        } else {
            self.data_type.with_text(value, look)
        }
    }
}

impl Limit {
    fn is_below(&self, value: Datum, data_type: &DataType) -> bool {
        match data_type.compare(self.constant.value.datum(), value) {
            Ordering::Less => true,
            Ordering::Equal => self.is_inclusive,
            Ordering::Greater => false,
        }
    }

    fn is_above(&self, value: Datum, data_type: &DataType) -> bool {
        match data_type.compare(self.constant.value.datum(), value) {
            Ordering::Greater => true,
            Ordering::Equal => self.is_inclusive,
            Ordering::Less => false,
        }
    }
}
