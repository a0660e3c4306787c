//! Conditions on one value, each with its meaning in plain SQL.

use rand::rngs::StdRng;

use super::columns::{Family, Kind};
use super::draw::{chance, json_text, literal, number, pick};
use super::kinds::JSON_SCALARS;
use super::rules::Rule;

/// A duration, and the same in a form that no calendar stretches.
pub(crate) const DURATIONS: &[(&str, &str)] = &[
    ("1 day", "24 hours"),
    ("7 days", "168 hours"),
    ("30 days", "720 hours"),
    ("1 month", "720 hours"),
    ("PT12H", "12 hours"),
    ("P90D", "2160 hours"),
    ("1 year", "8760 hours"),
    ("90 minutes", "90 minutes"),
    ("2 weeks 3 hours", "339 hours"),
    ("1 microsecond", "1 microsecond"),
    ("100 years", "876000 hours"),
];

const DAYS: &[&str] = &[
    "2024-03-01",
    "2024-02-29",
    "2024-01-31",
    "2024-03-31",
    "0001-01-01",
    "9999-12-31",
];

/// Times of day, and the same in UTC.
const MOMENTS: &[(&str, &str)] = &[
    ("2024-03-01T10:00:00Z", "2024-03-01 10:00:00"),
    ("2024-03-01T10:00:00+02:00", "2024-03-01 08:00:00"),
    ("2024-03-01 00:00", "2024-03-01 00:00:00"),
    ("2024-02-29T23:59:59.999999", "2024-02-29 23:59:59.999999"),
    ("2024-03-31T04:30:00+02:00", "2024-03-31 02:30:00"),
];

pub(crate) const SIGNS: &[(&str, &str)] = &[
    ("eq", "="),
    ("ne", "<>"),
    ("gt", ">"),
    ("gte", ">="),
    ("lt", "<"),
    ("lte", "<="),
];

pub(crate) fn at_path(value: &str, path: &str) -> String {
    let steps: Vec<String> = path.split('.').map(literal).collect();
    format!("({value} #> array[{}]::text[])", steps.join(", "))
}

/// A condition on one value.
pub(crate) fn test(rng: &mut StdRng, attribute: &str, value: &str, kind: &Kind) -> Rule {
    const EQUALITY: &[&str] = &["eq", "eq", "ne", "in", "not_in"];
    const ORDER: &[&str] = &["lt", "lte", "gt", "gte", "between"];
    const TEXT: &[&str] = &["contains", "not_contains", "starts_with", "ends_with"];
    const TIME: &[&str] = &["before", "after", "on"];
    const CLOCK: &[&str] = &[
        "within_last",
        "within_last",
        "not_within_last",
        "within_next",
    ];
    const ARRAY: &[&str] = &["has_any", "has_all", "has_none"];
    let is_property = value.starts_with("(e.");
    let families: &[&[&str]] = match kind.family {
        Family::Opaque => &[],
        Family::Number | Family::Boolean | Family::Scalar => &[EQUALITY, ORDER],
        Family::Text => &[EQUALITY, ORDER, TEXT],
        Family::Date | Family::Timestamp | Family::TimestampTz => {
            &[EQUALITY, ORDER, TIME, CLOCK, CLOCK]
        }
        Family::Array(..) => &[EQUALITY, ORDER, ARRAY, ARRAY],
        Family::Json if is_property => &[EQUALITY, ORDER, TEXT, TIME, ARRAY],
        Family::Json => &[EQUALITY, ORDER, TEXT, TIME, CLOCK, ARRAY, ARRAY],
    };
    let condition = Condition {
        attribute,
        value,
        kind,
    };
    if families.is_empty() || chance(rng, 10) {
        return condition.exists(rng);
    }
    let ops = pick(rng, families);
    let op = pick(rng, ops);
    if ops == EQUALITY {
        condition.equality(rng, op)
    } else if ops == ORDER {
        condition.order(rng, op)
    } else if ops == TEXT {
        condition.text(rng, op)
    } else if ops == TIME {
        condition.time(rng, op)
    } else if ops == CLOCK {
        condition.clock(rng, op)
    } else {
        condition.array(rng, op)
    }
}

struct Condition<'a> {
    attribute: &'a str,
    value: &'a str,
    kind: &'a Kind,
}

impl Condition<'_> {
    fn rule(&self, op: &str, value: &str, sql: &str) -> Rule {
        let json = format!(
            "{{\"attribute\": {}, \"op\": \"{op}\", \"value\": {value}}}",
            json_text(self.attribute)
        );
        let is_negation = matches!(
            op,
            "ne" | "not_in" | "not_contains" | "not_within_last" | "has_none"
        );
        let sql = if is_negation {
            format!("(not coalesce({sql}, false))")
        } else {
            format!("({sql})")
        };
        Rule::new(json, &sql)
    }

    fn is_json(&self) -> bool {
        self.kind.family == Family::Json
    }

    fn exists(&self, rng: &mut StdRng) -> Rule {
        let op = pick(rng, &["exists", "not_exists"]);
        let value = self.value;
        let exists = if self.is_json() {
            format!("({value} is not null and {value} <> 'null'::jsonb)")
        } else {
            // Of a composite value, IS NOT NULL asks every field.
            format!("(num_nonnulls({value}) = 1)")
        };
        let sql = if op == "exists" {
            exists
        } else {
            format!("(not {exists})")
        };
        Rule::new(
            format!(
                "{{\"attribute\": {}, \"op\": \"{op}\"}}",
                json_text(self.attribute)
            ),
            &sql,
        )
    }

    fn equality(&self, rng: &mut StdRng, op: &str) -> Rule {
        let is_list = op.ends_with("in");
        let amount = if is_list { number(rng, 1, 4) } else { 1 };
        let (json, sql): (Vec<_>, Vec<_>) = (0..amount).map(|_| self.kind.rule_value(rng)).unzip();
        let sql: Vec<String> = sql
            .iter()
            .map(|sql| format!("{} = {sql}", self.value))
            .collect();
        let json = if is_list {
            format!("[{}]", json.join(", "))
        } else {
            json.concat()
        };
        self.rule(op, &json, &sql.join(" or "))
    }

    fn order(&self, rng: &mut StdRng, op: &str) -> Rule {
        let (least, least_sql) = self.kind.rule_value(rng);
        let (mut greatest, mut greatest_sql) = self.kind.rule_value(rng);
        if self.is_json() && class(&least) != class(&greatest) {
            (greatest, greatest_sql) = (least.clone(), least_sql.clone());
        }
        let value = self.value;
        let sql = match op {
            "between" => format!("{value} >= {least_sql} and {value} <= {greatest_sql}"),
            _ => format!(
                "{value} {} {least_sql}",
                SIGNS
                    .iter()
                    .find(|(name, _)| *name == op)
                    .expect("a sign")
                    .1
            ),
        };
        let sql = if self.is_json() {
            format!(
                "jsonb_typeof({value}) = {} and {sql}",
                literal(class(&least))
            )
        } else {
            sql
        };
        let json = if op == "between" {
            format!("[{least}, {greatest}]")
        } else {
            least
        };
        self.rule(op, &json, &sql)
    }

    fn text(&self, rng: &mut StdRng, op: &str) -> Rule {
        let whole = match self.kind.family {
            Family::Json => pick(rng, JSON_SCALARS).trim_matches('"'),
            _ => pick(rng, self.kind.values),
        };
        let characters: Vec<char> = whole.chars().take(40).collect();
        let from = number(rng, 0, characters.len());
        let to = number(rng, from, characters.len());
        let part: String = characters[from..to].iter().collect();
        let value = if self.is_json() {
            format!("({} #>> '{{}}')", self.value)
        } else {
            format!("({}::text)", self.value)
        };
        // Bytes, in which no collation has a say.
        let bytes = |text: &str| format!("convert_to({text}, 'UTF8')");
        let (value, wanted) = (bytes(&value), bytes(&literal(&part)));
        let sql = match op {
            "starts_with" => format!("substring({value} for length({wanted})) = {wanted}"),
            "ends_with" => {
                format!(
                    "length({value}) >= length({wanted}) and substring({value} from length({value}) - length({wanted}) + 1) = {wanted}"
                )
            }
            _ => format!("position({wanted} in {value}) > 0"),
        };
        let sql = if self.is_json() {
            format!("jsonb_typeof({}) = 'string' and {sql}", self.value)
        } else {
            sql
        };
        self.rule(op, &json_text(&part), &sql)
    }

    fn time(&self, rng: &mut StdRng, op: &str) -> Rule {
        let is_day = op == "on" || self.kind.family == Family::Date || chance(rng, 50);
        let (text, utc) = if is_day {
            let day = pick(rng, DAYS);
            (day, day)
        } else {
            pick(rng, MOMENTS)
        };
        let value = self.moment();
        let limit = match self.kind.family {
            Family::Date => format!("'{utc}'::date"),
            Family::Timestamp => format!("'{utc}'::timestamp"),
            _ => format!("('{utc}'::timestamp at time zone 'UTC')"),
        };
        let sql = match op {
            "before" => format!("{value} < {limit}"),
            "after" => format!("{value} > {limit}"),
            _ => {
                let next = if self.kind.family == Family::Date {
                    "1"
                } else {
                    "interval '24 hours'"
                };
                format!("{value} >= {limit} and {value} < {limit} + {next}")
            }
        };
        self.rule(op, &json_text(text), &sql)
    }

    /// The value as something that compares with the clock.
    fn moment(&self) -> String {
        if self.is_json() {
            format!(
                "(select j.at from public.json_moment as j where jsonb_typeof({0}) = 'string' and j.text = ({0} #>> '{{}}'))",
                self.value
            )
        } else {
            self.value.to_owned()
        }
    }

    fn clock(&self, rng: &mut StdRng, op: &str) -> Rule {
        let (duration, hours) = pick(rng, DURATIONS);
        let value = self.moment();
        let now = match self.kind.family {
            Family::Date | Family::Timestamp => "(public.clock() at time zone 'UTC')",
            _ => "public.clock()",
        };
        let sql = match op {
            "within_next" => format!("{value} > {now} and {value} <= {now} + interval '{hours}'"),
            _ => format!("{value} > {now} - interval '{hours}' and {value} <= {now}"),
        };
        self.rule(op, &json_text(duration), &sql)
    }

    fn array(&self, rng: &mut StdRng, op: &str) -> Rule {
        let (element, pool) = match self.kind.family {
            Family::Array(element, pool) => (element, pool),
            _ => ("jsonb", JSON_SCALARS),
        };
        let parts: Vec<&str> = (0..number(rng, 1, 3)).map(|_| pick(rng, pool)).collect();
        let value = self.value;
        let elements = if self.is_json() {
            format!(
                "jsonb_array_elements(case when jsonb_typeof({value}) = 'array' then {value} else '[]' end)"
            )
        } else {
            format!("unnest({value})")
        };
        let has: Vec<String> = parts
            .iter()
            .map(|part| {
                format!(
                    "exists (select from {elements} as u (u) where u.u = {}::{element})",
                    literal(part)
                )
            })
            .collect();
        let sql = has.join(if op == "has_all" { " and " } else { " or " });
        let json: Vec<String> = parts
            .iter()
            .map(|part| {
                if self.is_json() {
                    (*part).to_owned()
                } else {
                    json_text(part)
                }
            })
            .collect();
        self.rule(op, &format!("[{}]", json.join(", ")), &sql)
    }
}

/// The JSON type of a scalar as Postgres calls it.
fn class(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        _ => "number",
    }
}
