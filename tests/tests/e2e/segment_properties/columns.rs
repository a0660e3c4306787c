//! Columns of random kinds, and values for their rows.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::draw::{chance, json_text, literal, number};
use super::kinds::{JSON_SCALARS, KINDS, LONG};

/// What conditions a type can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Neither equality nor order.
    Opaque,
    Number,
    Boolean,
    Scalar,
    Text,
    Date,
    Timestamp,
    TimestampTz,
    Json,
    /// Of elements of this type.
    Array(&'static str, &'static [&'static str]),
}

#[derive(Debug)]
pub(crate) struct Kind {
    /// Its feature, which a run can leave out.
    pub(crate) name: &'static str,
    /// As in CREATE TABLE.
    pub(crate) declaration: &'static str,
    /// As in a literal.
    pub(crate) cast: &'static str,
    pub(crate) family: Family,
    pub(crate) values: &'static [&'static str],
}

impl Kind {
    /// A value as a rule has it and as SQL has it.
    pub(crate) fn rule_value(&self, rng: &mut StdRng) -> (String, String) {
        let text = *self.values.choose(rng).expect("a pool has values");
        let sql = format!("{}::{}", literal(text), self.cast);
        let is_bare = match self.family {
            Family::Json => true,
            Family::Boolean => chance(rng, 50),
            Family::Number => serde_json::from_str::<f64>(text).is_ok() && chance(rng, 50),
            _ => false,
        };
        (
            if is_bare {
                text.to_owned()
            } else {
                json_text(text)
            },
            sql,
        )
    }
}

/// Names that statements may trip over.
const NAMES: &[&str] = &[
    "plan", "Group", "e", "a.b", "x \"y\"", "user_id", "now", "rule", "order",
];

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static Kind,
}

impl Column {
    pub(crate) fn sql(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }

    pub(crate) fn is_generated(&self) -> bool {
        self.kind.name == "stored"
    }

    /// A value or NULL, as SQL.
    pub(crate) fn value(&self, rng: &mut StdRng) -> String {
        let cast = self.kind.cast;
        if chance(rng, 20) {
            return format!("null::{cast}");
        }
        let text = match self.kind.family {
            Family::Json => json_document(rng),
            _ => (*self.kind.values.choose(rng).expect("a pool has values")).to_owned(),
        };
        format!("{}::{cast}", literal(&text))
    }
}

/// 4 to 8 columns of different kinds, without those that this run leaves out.
pub(crate) fn columns(rng: &mut StdRng, without: &[String]) -> Vec<Column> {
    let usable: Vec<&'static Kind> = KINDS
        .iter()
        .filter(|kind| !without.iter().any(|name| name == kind.name))
        .collect();
    let amount = number(rng, 4, 8);
    let mut kinds: Vec<&'static Kind> = usable.choose_multiple(rng, amount).copied().collect();
    // The richest kind, in half of all cases.
    if !kinds.iter().any(|kind| kind.family == Family::Json)
        && chance(rng, 50)
        && let Some(json) = usable.iter().find(|kind| kind.family == Family::Json)
    {
        kinds[0] = json;
    }
    let names = NAMES.choose_multiple(rng, kinds.len());
    kinds
        .into_iter()
        .zip(names)
        .map(|(kind, name)| Column { name, kind })
        .collect()
}

fn json_scalar(rng: &mut StdRng) -> &'static str {
    if chance(rng, 15) {
        "null"
    } else {
        JSON_SCALARS.choose(rng).expect("a pool has values")
    }
}

fn json_list(rng: &mut StdRng) -> String {
    let parts: Vec<String> = (0..number(rng, 0, 3))
        .map(|_| match number(rng, 0, 9) {
            0 => "[1]".to_owned(),
            1 => format!("{{\"k\": {}}}", json_scalar(rng)),
            _ => json_scalar(rng).to_owned(),
        })
        .collect();
    format!("[{}]", parts.join(", "))
}

/// An object most of the time, with any of the keys that the paths of rules name.
pub(crate) fn json_document(rng: &mut StdRng) -> String {
    if chance(rng, 10) {
        return ["null", "1", "\"pro\"", "[]", "[1, \"a\"]", "{}"]
            .choose(rng)
            .expect("it has values")
            .to_string();
    }
    json_object(rng)
}

pub(crate) fn json_object(rng: &mut StdRng) -> String {
    let mut keys = Vec::new();
    for key in ["tier", "n", "when", "", "it's"] {
        if chance(rng, 60) {
            keys.push(format!("{}: {}", json_text(key), json_scalar(rng)));
        }
    }
    if chance(rng, 50) {
        let inner = if chance(rng, 80) {
            format!("{{\"x\": {}}}", json_scalar(rng))
        } else {
            json_scalar(rng).to_owned()
        };
        keys.push(format!("\"deep\": {inner}"));
    }
    for key in ["tags", "list"] {
        if chance(rng, 60) {
            let value = if chance(rng, 85) {
                json_list(rng)
            } else {
                json_scalar(rng).to_owned()
            };
            keys.push(format!("\"{key}\": {value}"));
        }
    }
    if chance(rng, 5) {
        keys.push(format!("\"long\": \"{LONG}\""));
    }
    format!("{{{}}}", keys.join(", "))
}
