//! `JSONPath` queries (RFC 9535) that end.
//!
//! Most queries name one place; those are walked here, without a list of nodes. The others run in `serde_json_path`, which
//! cannot be stopped, so what a query may visit in a payload is bounded before it starts.

use serde_json::Value;
use serde_json_path::JsonPath;

use super::Failure;
use crate::input::{Error, Kind, Place};

const NO_PATH: &str = "A text is a JSONPath query, such as \"$.customer.id\"; write {\"const\": …} for a text that is meant as it is.";
const SIMPLER: &str = "Ask for less in one query, or use a mapping in JavaScript.";
const MAX_BYTES: usize = 1_024;
/// The parser calls itself for every level, and tries alternatives on each.
const MAX_NESTING: usize = 6;
/// Nodes that one query may visit at most; some tens of milliseconds.
const MAX_VISITS: u64 = 1_000_000;

/// A compiled query.
#[derive(Debug, Clone)]
pub(super) struct Query {
    text: String,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    One(Vec<Step>),
    Many(Box<Many>),
}

#[derive(Debug, Clone)]
struct Many {
    path: JsonPath,
    shape: Shape,
    /// The way to the value outside of which the query looks at nothing.
    start: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(String),
    Index(i64),
}

/// What decides how many nodes a query visits.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shape {
    /// Over all brackets, the product of their selectors: how often one node may be selected.
    selectors: u64,
    /// Descendant segments and filters: each may visit a node once for every level above it.
    levels: u32,
    /// Queries from the root inside of filters: each may visit the whole payload for every node.
    roots: u32,
}

impl Query {
    pub(super) fn parse(place: &Place, text: &str) -> Result<Self, Error> {
        if text.len() > MAX_BYTES {
            return Err(place.error(Kind::TooLarge {
                what: "a query",
                limit: format!("{MAX_BYTES} bytes"),
            }));
        }
        if !text.starts_with('$') {
            return Err(place.unusable(format!("{text:?} is no JSONPath query"), NO_PATH));
        }
        let shape = Shape::of(text).map_err(|message| place.unusable(message, SIMPLER))?;
        let path = JsonPath::parse(text).map_err(|error| {
            let message = format!(
                "{text:?} is no JSONPath query: {} at character {}",
                error.message(),
                error.position() + 1
            );
            place.unusable(message, NO_PATH)
        })?;
        let way = match first_steps(text) {
            (steps, true) => Way::One(steps),
            (steps, false) => Way::Many(Box::new(Many {
                path,
                shape,
                start: if shape.roots == 0 { steps } else { Vec::new() },
            })),
        };
        Ok(Self {
            text: text.to_owned(),
            way,
        })
    }

    /// The query as written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it can find one value at most.
    pub(super) fn is_singular(&self) -> bool {
        matches!(self.way, Way::One(_))
    }

    /// The value that a singular query finds.
    pub(super) fn one<'v>(&self, payload: &'v Value) -> Option<&'v Value> {
        let Way::One(steps) = &self.way else {
            return None;
        };
        walk(steps, payload)
    }

    /// The names, one inside of the other, of the value outside of which the query looks at nothing.
    pub(super) fn start(&self) -> impl Iterator<Item = &str> {
        let steps = match &self.way {
            Way::One(steps) => steps,
            Way::Many(many) => &many.start,
        };
        steps.iter().map_while(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Index(_) => None,
        })
    }

    /// Everything that the query finds, in its order.
    pub(super) fn all<'v>(&self, payload: &'v Value) -> Result<Vec<&'v Value>, Failure> {
        match &self.way {
            Way::One(_) => Ok(self.one(payload).into_iter().collect()),
            Way::Many(many) => {
                let Some(start) = walk(&many.start, payload) else {
                    return Ok(Vec::new());
                };
                if many.shape.visits(start) > MAX_VISITS {
                    return Err(Failure::new(format!(
                        "the payload holds too much for the query {}",
                        self.text
                    )));
                }
                Ok(many.path.query(payload).all())
            }
        }
    }
}

fn walk<'v>(steps: &[Step], payload: &'v Value) -> Option<&'v Value> {
    steps.iter().try_fold(payload, |value, step| step.of(value))
}

impl Step {
    fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        match (self, value) {
            (Self::Name(name), Value::Object(map)) => map.get(name),
            (Self::Index(index), Value::Array(list)) => {
                let index = if *index < 0 {
                    list.len()
                        .checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?
                } else {
                    usize::try_from(*index).ok()?
                };
                list.get(index)
            }
            _ => None,
        }
    }
}

impl Shape {
    /// An error when brackets nest deeper than the parser may follow, or the text ends within quotes, where the parser panics
    /// after `\u`.
    fn of(text: &str) -> Result<Self, &'static str> {
        let mut shape = Self {
            selectors: 1,
            levels: 0,
            roots: 0,
        };
        // The number of selectors in every open bracket; parentheses count for nesting only.
        let mut open: Vec<u64> = Vec::new();
        let mut quote = None;
        let mut rest = text.bytes().skip(1).peekable();
        while let Some(byte) = rest.next() {
            match (quote, byte) {
                (Some(_), b'\\') => {
                    rest.next();
                }
                (Some(mark), _) => quote = if mark == byte { None } else { quote },
                (None, b'\'' | b'"') => quote = Some(byte),
                (None, b'[' | b'(') => {
                    open.push(1);
                    if open.len() > MAX_NESTING {
                        return Err("the query nests too deeply");
                    }
                }
                (None, b']' | b')') => {
                    shape.selectors = shape.selectors.saturating_mul(open.pop().unwrap_or(1));
                }
                (None, b',') => {
                    if let Some(selectors) = open.last_mut() {
                        *selectors += 1;
                    }
                }
                (None, b'.') if rest.peek() == Some(&b'.') => {
                    rest.next();
                    shape.levels += 1;
                }
                (None, b'?') => shape.levels += 1,
                (None, b'$') => shape.roots += 1,
                (None, _) => {}
            }
        }
        match quote {
            Some(_) => Err("the query ends within quotes"),
            None => Ok(shape),
        }
    }

    /// A bound on the nodes that the query visits in a payload.
    fn visits(self, payload: &Value) -> u64 {
        let (nodes, depth) = extent(payload);
        nodes
            .saturating_mul(self.selectors)
            .saturating_mul(depth.saturating_pow(self.levels))
            .saturating_mul(nodes.saturating_pow(self.roots))
    }
}

/// How many values a payload holds, itself included, and how deep it nests.
fn extent(value: &Value) -> (u64, u64) {
    let inner = |(nodes, depth): (u64, u64), value: &Value| {
        let (more, deeper) = extent(value);
        (nodes + more, depth.max(deeper + 1))
    };
    match value {
        Value::Array(list) => list.iter().fold((1, 1), inner),
        Value::Object(map) => map.values().fold((1, 1), inner),
        _ => (1, 1),
    }
}

/// The steps with which a valid query begins and that find one value at most, and whether they are all of it.
fn first_steps(text: &str) -> (Vec<Step>, bool) {
    let mut steps = Vec::new();
    let mut rest = text.strip_prefix('$').unwrap_or(text);
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return (steps, true);
        }
        let Some((step, after)) = single_step(rest) else {
            return (steps, false);
        };
        steps.push(step);
        rest = after;
    }
}

/// The step with which the text begins, if it finds one value at most, and what follows it.
fn single_step(text: &str) -> Option<(Step, &str)> {
    if let Some(name) = text.strip_prefix('.') {
        let end = name
            .find(['.', '[', ' ', '\t', '\n', '\r'])
            .unwrap_or(name.len());
        let (name, after) = name.split_at(end);
        return (!name.is_empty() && name != "*").then(|| (Step::Name(name.to_owned()), after));
    }
    let inside = text.strip_prefix('[')?.trim_start();
    let (step, after) = match inside.bytes().next()? {
        quote @ (b'\'' | b'"') => quoted_name(&inside[1..], quote)?,
        _ => {
            let end = inside.find(|c: char| c != '-' && !c.is_ascii_digit())?;
            let (index, after) = inside.split_at(end);
            (Step::Index(index.parse().ok()?), after)
        }
    };
    Some((step, after.trim_start().strip_prefix(']')?))
}

/// The name up to the closing quote, and what follows it. The escapes are those of JSON, and `\'`.
fn quoted_name(text: &str, quote: u8) -> Option<(Step, &str)> {
    let mut json = String::from("\"");
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                '\'' => json.push('\''),
                escaped => json.extend(['\\', escaped]),
            },
            c if c == char::from(quote) => {
                json.push('"');
                let name = serde_json::from_str(&json).ok()?;
                return Some((Step::Name(name), &text[at + 1..]));
            }
            '"' => json.push_str("\\\""),
            c => json.push(c),
        }
    }
    None
}
