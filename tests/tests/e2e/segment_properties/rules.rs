//! Random rules, each with the same meaning written as plain SQL by this test: the oracle.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::columns::{Column, Family};
use super::conditions::{DURATIONS, SIGNS, at_path, test};
use super::draw::{chance, json_text, literal, number, pick};
use super::kinds::KINDS;

/// A rule, and the condition that it stands for over a row `t`. Other segments stand in it as `<<name>>`.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) json: String,
    pub(crate) sql: String,
    /// The segments that it names.
    pub(crate) names: Vec<String>,
}

/// What rules are about.
pub(crate) struct Subject<'a> {
    pub(crate) columns: &'a [Column],
    /// The customer's id as text.
    pub(crate) id: &'a str,
    /// Segments that may be named.
    pub(crate) segments: Vec<String>,
    pub(crate) has_events: bool,
}

pub(crate) const EVENTS: &[&str] = &["purchase", "visit", "it's \"x\""];

const PATHS: &[&str] = &[
    "tier", "tier", "n", "n", "when", "deep.x", "deep", "tags", "tags", "tags.0", "tags.-1",
    "list.1.k", "list", "missing", "it's", "long",
];

impl Rule {
    pub(crate) fn new(json: String, sql: &str) -> Self {
        Self {
            json,
            sql: format!("coalesce({sql}, false)"),
            names: Vec::new(),
        }
    }

    pub(crate) fn draw(rng: &mut StdRng, subject: &Subject<'_>, depth: usize) -> Self {
        let roll = number(rng, 0, 99);
        if depth > 0 && roll < 55 {
            let (key, word) = if roll < 28 {
                ("all", " and ")
            } else {
                ("any", " or ")
            };
            let parts: Vec<Self> = (0..number(rng, 1, 4))
                .map(|_| Self::draw(rng, subject, depth - 1))
                .collect();
            let join = |part: fn(&Self) -> &str, word: &str| {
                parts.iter().map(part).collect::<Vec<_>>().join(word)
            };
            return Self {
                json: format!("{{\"{key}\": [{}]}}", join(|part| &part.json, ", ")),
                sql: format!("({})", join(|part| &part.sql, word)),
                names: parts.iter().flat_map(|part| part.names.clone()).collect(),
            };
        }
        if depth > 0 && roll < 67 {
            let part = Self::draw(rng, subject, depth - 1);
            return Self {
                json: format!("{{\"not\": {}}}", part.json),
                sql: format!("(not {})", part.sql),
                names: part.names,
            };
        }
        if roll < 73 && !subject.segments.is_empty() {
            let name = subject.segments.choose(rng).expect("it is not empty");
            return Self {
                json: format!("{{\"segment\": {}}}", json_text(name)),
                sql: format!("(<<{name}>>)"),
                names: vec![name.clone()],
            };
        }
        if roll < 85 && subject.has_events {
            return event(rng, subject.id);
        }
        let column = subject.columns.choose(rng).expect("a table has columns");
        // A path begins at the first dot.
        let is_whole =
            column.kind.family != Family::Json || column.name.contains('.') || chance(rng, 10);
        let (attribute, value) = if is_whole {
            (column.name.to_owned(), format!("t.{}", column.sql()))
        } else {
            let path = pick(rng, PATHS);
            (
                format!("{}.{path}", column.name),
                at_path(&format!("t.{}", column.sql()), path),
            )
        };
        test(rng, &attribute, &value, column.kind)
    }
}

/// A condition on events, which the test has logged in a table of its own.
fn event(rng: &mut StdRng, id: &str) -> Rule {
    const AMOUNTS: &[&str] = &["0", "1", "2.5", "10", "0.1", "-1"];
    let name = pick(rng, EVENTS);
    let mut keys = vec![format!("\"event\": {}", json_text(name))];
    let mut filter = format!(
        "e.user_id = {id} and e.name = {} and e.at <= public.clock()",
        literal(name)
    );
    let mut having = Vec::new();
    let has_sum = chance(rng, 35);
    if chance(rng, 60) {
        let mut bounds = Vec::new();
        let amount = if chance(rng, 80) { 1 } else { 2 };
        for (name, sign) in SIGNS.choose_multiple(rng, amount).collect::<Vec<_>>() {
            let limit = number(rng, 0, 3);
            bounds.push(format!("\"{name}\": {limit}"));
            having.push(format!("count(*) {sign} {limit}"));
        }
        keys.push(format!("\"count\": {{{}}}", bounds.join(", ")));
    } else if !has_sum {
        having.push("count(*) >= 1".to_owned());
    }
    if has_sum {
        let path = pick(rng, &["n", "tier", "deep.x"]);
        let (name, sign) = pick(rng, SIGNS);
        let limit = pick(rng, AMOUNTS);
        keys.push(format!(
            "\"sum\": {{\"of\": \"properties.{path}\", \"{name}\": {limit}}}"
        ));
        let amount = at_path("e.properties", path);
        having.push(format!(
            "coalesce(sum(({amount} #>> '{{}}')::numeric) filter (where jsonb_typeof({amount}) = 'number'), 0) {sign} {limit}"
        ));
    }
    if chance(rng, 65) {
        let (duration, hours) = pick(rng, DURATIONS);
        keys.push(format!("\"within_last\": \"{duration}\""));
        filter += &format!(" and e.at > public.clock() - interval '{hours}'");
    }
    if chance(rng, 40) {
        let json = KINDS
            .iter()
            .find(|kind| kind.family == Family::Json)
            .expect("there is jsonb");
        let mut conditions = Vec::new();
        for _ in 0..number(rng, 1, 2) {
            let path = pick(rng, PATHS);
            let rule = test(
                rng,
                &format!("properties.{path}"),
                &at_path("e.properties", path),
                json,
            );
            conditions.push(rule.json);
            filter += &format!(" and {}", rule.sql);
        }
        keys.push(format!("\"where\": [{}]", conditions.join(", ")));
    }
    let sql = format!(
        "(select {} from public.event_log as e where {filter})",
        having.join(" and ")
    );
    Rule::new(format!("{{{}}}", keys.join(", ")), &sql)
}
