//! A condition on one value as SQL.

use actionflow_core::segment::moment;
use actionflow_core::segment::window::Comparison;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};

use super::Writer;
use crate::error::Error;
use crate::pg::jsonb::{JsonType, Path};
use crate::pg::types::{DataType, Kind, operator_name};
use crate::segment::condition::{AttributeCondition, Constant, Limit, Probe, Test, TextTest};
use crate::segment::test::duration_text;

impl Writer<'_> {
    pub(super) fn attribute(&self, attribute: &AttributeCondition) -> Result<String, Error> {
        self.probe(&attribute.probe, &quote_identifier(&attribute.column))
    }

    pub(super) fn probe(&self, probe: &Probe, column: &str) -> Result<String, Error> {
        let subject = subject(probe, column);
        let data_type = &*probe.data_type;
        let is_json = data_type.kind() == Kind::Jsonb;
        Ok(match &probe.test {
            Test::Exists if is_json => format!("(nullif({subject}, 'null'::jsonb) is not null)"),
            // "is not null" asks for every field of a composite.
            Test::Exists if data_type.is_composite() => {
                format!("({subject} is distinct from null)")
            }
            Test::Exists => format!("({subject} is not null)"),
            Test::OneOf(constants) => one_of(&subject, data_type, constants)?,
            Test::Range {
                lower,
                upper,
                json_type,
            } => range(
                &subject,
                data_type,
                lower.as_ref(),
                upper.as_ref(),
                *json_type,
            )?,
            Test::Moment { from, to } => moment_range(&subject, *from, *to),
            Test::Text(test, part) => text(&subject, is_json, *test, part),
            Test::WithinLast(duration) => {
                let (value, now) = self.clocked(&subject, data_type);
                format!(
                    "({value} > {now} - {} and {value} <= {now})",
                    interval(*duration)
                )
            }
            Test::WithinNext(duration) => {
                let (value, now) = self.clocked(&subject, data_type);
                format!(
                    "({value} > {now} and {value} <= {now} + {})",
                    interval(*duration)
                )
            }
            Test::HasAny(list) => array(
                &subject,
                data_type,
                list.iter().map(|part| &part.text),
                "&&",
                " or ",
            ),
            Test::HasAll(list) => array(
                &subject,
                data_type,
                list.iter().map(|part| &part.text),
                "@>",
                " and ",
            ),
        })
    }

    /// A date or time, and now, as types that compare without asking for the session's time zone.
    pub(super) fn clocked(&self, subject: &str, data_type: &DataType) -> (String, String) {
        match data_type.kind() {
            Kind::TimestampTz => (subject.to_owned(), format!("{}::timestamptz", self.now)),
            Kind::Jsonb => (
                format!("actionflow._json_moment({subject})"),
                format!("{}::timestamptz", self.now),
            ),
            _ => (
                subject.to_owned(),
                format!("({}::timestamptz at time zone 'UTC')", self.now),
            ),
        }
    }
}

pub(super) fn subject(probe: &Probe, column: &str) -> String {
    match &probe.path {
        Some(path) if !path.steps().is_empty() => format!("({column} #> {})", path_literal(path)),
        _ => column.to_owned(),
    }
}

fn one_of(subject: &str, data_type: &DataType, constants: &[Constant]) -> Result<String, Error> {
    let operator = operator(data_type.equality_operator())?;
    let literals: Vec<String> = constants
        .iter()
        .map(|constant| literal(&constant.text, data_type))
        .collect();
    // As a list where that means the same, so that the planner sees one index condition.
    if operator == "=" && literals.len() > 1 {
        return Ok(format!("({subject} in ({}))", literals.join(", ")));
    }
    let parts: Vec<String> = literals
        .iter()
        .map(|literal| format!("{subject} {operator} {literal}"))
        .collect();
    Ok(format!("({})", parts.join(" or ")))
}

fn moment_range(subject: &str, from: Option<i64>, to: Option<i64>) -> String {
    let moment = format!("actionflow._json_moment({subject})");
    let from = from.map(|from| format!("{moment} >= {}", moment_literal(from)));
    let to = to.map(|to| format!("{moment} < {}", moment_literal(to)));
    let parts: Vec<String> = from.into_iter().chain(to).collect();
    format!("({})", parts.join(" and "))
}

fn range(
    subject: &str,
    data_type: &DataType,
    lower: Option<&Limit>,
    upper: Option<&Limit>,
    json_type: Option<JsonType>,
) -> Result<String, Error> {
    let mut parts = Vec::new();
    if let Some(json_type) = json_type {
        parts.push(format!(
            "jsonb_typeof({subject}) = {}",
            quote_literal(json_type_name(json_type))
        ));
    }
    for (limit, inclusive, exclusive) in [(lower, 4, 5), (upper, 2, 1)] {
        if let Some(limit) = limit {
            let strategy = if limit.is_inclusive {
                inclusive
            } else {
                exclusive
            };
            let operator = operator(data_type.order_operator(strategy))?;
            parts.push(format!(
                "{subject} {operator} {}",
                literal(&limit.constant.text, data_type)
            ));
        }
    }
    Ok(format!("({})", parts.join(" and ")))
}

fn text(subject: &str, is_json: bool, test: TextTest, part: &str) -> String {
    // By bytes: no collation may make two texts alike here, and Postgres refuses some collations for these functions.
    let value = if is_json {
        format!("({subject} #>> '{{}}') collate \"C\"")
    } else {
        format!("{subject}::text collate \"C\"")
    };
    let part = format!("{}::text", quote_literal(part));
    let sql = match test {
        TextTest::Contains => format!("strpos({value}, {part}) > 0"),
        TextTest::StartsWith => format!("starts_with({value}, {part})"),
        TextTest::EndsWith => format!("right({value}, length({part})) = {part}"),
    };
    if is_json {
        format!("(jsonb_typeof({subject}) = 'string' and {sql})")
    } else {
        format!("({sql})")
    }
}

fn array<'a>(
    subject: &str,
    data_type: &DataType,
    parts: impl Iterator<Item = &'a String>,
    operator: &str,
    word: &str,
) -> String {
    let is_json = data_type.kind() == Kind::Jsonb;
    let operator = if is_json { "@>" } else { operator };
    let parts: Vec<String> = parts
        .map(|part| format!("{subject} {operator} {}", literal(part, data_type)))
        .collect();
    let sql = parts.join(word);
    if is_json {
        format!("(jsonb_typeof({subject}) = 'array' and ({sql}))")
    } else {
        format!("({sql})")
    }
}

fn operator(oid: pg_sys::Oid) -> Result<String, Error> {
    Spi::connect(|client| {
        let row = client
            .select(
                "select n.nspname::text, o.oprname::text from pg_catalog.pg_operator as o
                 join pg_catalog.pg_namespace as n on n.oid = o.oprnamespace where o.oid = $1",
                Some(1),
                &[oid.into()],
            )?
            .first();
        match (row.get::<String>(1)?, row.get::<String>(2)?) {
            (Some(schema), Some(name)) => Ok(operator_name(&schema, &name)),
            _ => Err(Error::Internal("an operator is missing".to_owned())),
        }
    })
}

fn literal(text: &str, data_type: &DataType) -> String {
    format!("{}::{}", quote_literal(text), data_type.sql_name())
}

fn moment_literal(moment: i64) -> String {
    let text = moment::text(moment);
    format!("{}::timestamptz", quote_literal(text))
}

pub(super) fn interval(microseconds: i64) -> String {
    format!("{}::interval", quote_literal(duration_text(microseconds)))
}

pub(super) fn path_literal(path: &Path) -> String {
    let steps: Vec<String> = path.steps().iter().map(quote_literal).collect();
    format!("array[{}]", steps.join(", "))
}

fn json_type_name(json_type: JsonType) -> &'static str {
    match json_type {
        JsonType::Null => "null",
        JsonType::Text => "string",
        JsonType::Number => "number",
        JsonType::Boolean => "boolean",
        JsonType::Array => "array",
        JsonType::Object => "object",
    }
}

pub(super) fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Eq => "=",
        Comparison::Ne => "<>",
        Comparison::Gt => ">",
        Comparison::Gte => ">=",
        Comparison::Lt => "<",
        Comparison::Lte => "<=",
    }
}
