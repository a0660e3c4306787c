//! Rules as people write them; `parse` reads them.

use std::str::FromStr;

use serde_json::Value;

use super::parse;
use super::window::Comparison;
use crate::input::{Error, Place};

/// Of one rule, with those of the segments that it names.
pub const MAX_CONDITIONS: usize = 500;
const PROPERTIES: &str = "properties.";

/// A segment rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Every part holds.
    All(Vec<Rule>),
    /// Some part holds.
    Any(Vec<Rule>),
    /// The part does not hold.
    Not(Box<Rule>),
    /// A condition on the customer's row.
    Attribute(Condition),
    /// A condition on the customer's events.
    Event(EventCondition),
    /// Membership of another segment.
    Segment {
        /// Its name.
        name: String,
        /// Where the rule names it.
        place: Place,
    },
}

/// A condition on one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is looked at: a column, a path into one, or a path into an event's properties.
    pub attribute: String,
    /// How.
    pub op: Op,
    /// With what, in the shape that the operator needs; null when it needs nothing.
    pub value: Value,
    /// Where the condition stands.
    pub place: Place,
}

/// A condition on the number of a customer's events, or on a sum over them.
#[derive(Debug, Clone, PartialEq)]
pub struct EventCondition {
    /// The name of the events.
    pub name: String,
    /// Conditions on their number; all must hold.
    pub count: Vec<(Comparison, i64)>,
    /// A condition on a sum over them.
    pub sum: Option<Sum>,
    /// Only events of the last so many microseconds.
    pub within_us: Option<i64>,
    /// Only events for which all of these hold; their attributes are paths inside the properties.
    pub filters: Vec<Condition>,
}

/// A sum over a property of events, and what it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    /// The property, as a path inside the properties.
    pub of: Vec<String>,
    /// Decimal numbers; all comparisons must hold.
    pub bounds: Vec<(Comparison, String)>,
}

macro_rules! ops {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// An operator of a condition.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Op {
            $(#[doc = concat!("`", $name, "`")] $variant),*
        }

        impl Op {
            /// The name in rules.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        impl FromStr for Op {
            type Err = ();

            fn from_str(name: &str) -> Result<Self, ()> {
                match name { $($name => Ok(Self::$variant),)* _ => Err(()) }
            }
        }

        /// What to do about an unknown operator.
        pub(super) const OPS: &str = concat!("Use one of: ", ops!(@list $($name),*), ".");
    };
    (@list $first:literal $(, $rest:literal)*) => { concat!($first $(, ", ", $rest)*) };
}

ops! {
    Eq "eq", Ne "ne", In "in", NotIn "not_in", Lt "lt", Lte "lte", Gt "gt", Gte "gte", Between "between",
    Contains "contains", NotContains "not_contains", StartsWith "starts_with", EndsWith "ends_with",
    Exists "exists", NotExists "not_exists", Before "before", After "after", On "on",
    WithinLast "within_last", NotWithinLast "not_within_last", WithinNext "within_next",
    HasAny "has_any", HasAll "has_all", HasNone "has_none",
}

impl Op {
    /// The operator of which this one is the complement.
    #[must_use]
    pub fn positive(self) -> Option<Self> {
        match self {
            Self::Ne => Some(Self::Eq),
            Self::NotIn => Some(Self::In),
            Self::NotContains => Some(Self::Contains),
            Self::NotExists => Some(Self::Exists),
            Self::NotWithinLast => Some(Self::WithinLast),
            Self::HasNone => Some(Self::HasAny),
            _ => None,
        }
    }

    /// Whether it compares with the clock.
    #[must_use]
    pub fn is_timed(self) -> bool {
        matches!(
            self,
            Self::WithinLast | Self::NotWithinLast | Self::WithinNext
        )
    }
}

impl Rule {
    /// Parses a rule and checks its shape; whether its attributes exist is not known here.
    ///
    /// # Errors
    /// When a key or an operator is unknown, a value has a shape that its operator cannot use, or a limit is passed.
    pub fn parse(json: &Value) -> Result<Self, Error> {
        parse::parse(json)
    }
}

/// The steps of a path such as `properties.cart.total` below the properties.
///
/// # Errors
/// When it does not begin with `properties.` or has an empty step.
pub fn property_path(text: &str, place: &Place) -> Result<Vec<String>, Error> {
    let steps: Option<Vec<String>> = text.strip_prefix(PROPERTIES).map(split_path);
    match steps {
        Some(steps) if steps.iter().all(|step| !step.is_empty()) => Ok(steps),
        _ => Err(place.unusable(
            format!("\"{text}\" is no path into the properties of an event"),
            "Name a property as \"properties.name\".",
        )),
    }
}

/// The steps of a path whose parts are joined by dots.
#[must_use]
pub fn split_path(text: &str) -> Vec<String> {
    text.split('.').map(str::to_owned).collect()
}
