//! A mixture of rules as a shop might have it, over the columns of `sql/segments/customers.sql`.

use serde_json::{Value, json};

/// Between two neighbouring thresholds of `score`; all are multiples of it.
const GAP: u32 = 100;

/// Scores lie in so many gaps.
const GAPS: u32 = 2500;

/// The rule of the segment with this number. A quarter of them read `score`, alone or with another attribute; nobody is
/// in one by missing something only.
pub(super) fn rule(number: u32) -> Value {
    let group = number / 4;
    match number % 4 {
        0 => score_rule(group),
        place => other_rule(group * 3 + place - 1),
    }
}

fn score_rule(number: u32) -> Value {
    // The factor has no divisor in common with the number of gaps, so that each is used once before one is used twice.
    let threshold = GAP * (1 + number * 1547 % GAPS);
    match number % 5 {
        0 => all([
            attribute("score", "gte", threshold),
            attribute("plan", "eq", value("plan", number / 5, 10)),
        ]),
        2 => all([
            attribute("score", "lt", threshold),
            attribute(
                "country",
                "in",
                [
                    value("country", number, 50),
                    value("country", number + 1, 50),
                ],
            ),
        ]),
        // The best tenth.
        4 => attribute("score", "gte", GAP * (GAPS * 9 / 10 + number * 97 % 250)),
        _ => attribute(
            "score",
            "between",
            [threshold, threshold + GAP * (1 + number % 50)],
        ),
    }
}

fn other_rule(number: u32) -> Value {
    let n = number / 9;
    // One in five is wide, because it has no second condition.
    let with_country = |condition: Value| {
        if n.is_multiple_of(5) {
            condition
        } else {
            all([
                condition,
                attribute("country", "eq", value("country", n, 50)),
            ])
        }
    };
    let tags = json!([value("tag", n, 100), value("tag", n + 37, 100)]);
    match number % 9 {
        0 if n.is_multiple_of(5) => attribute("plan", "eq", value("plan", n / 5, 10)),
        0 => with_country(attribute(
            "plan",
            "in",
            [value("plan", n, 10), value("plan", n + 3, 10)],
        )),
        1 => attribute("country", "eq", value("country", n, 50)),
        2 => attribute("city", "eq", value("city", n, 1000)),
        3 => with_country(within_last("last_seen", 1 + n % 90)),
        4 if n.is_multiple_of(2) => with_country(attribute("signed_up_at", "after", day(2023, n))),
        4 => with_country(attribute("signed_up_at", "before", day(2018, n))),
        5 => attribute("tags", "has_any", tags),
        6 => attribute("attrs.tier", "eq", value("tier", n, 20)),
        7 => attribute(
            "email",
            "ends_with",
            format!("@{}.example", value("mail", n, 200)),
        ),
        _ => any([
            attribute("city", "eq", value("city", n + 500, 1000)),
            all([
                attribute("country", "eq", value("country", n, 50)),
                json!({"not": attribute("tags", "has_any", tags)}),
            ]),
        ]),
    }
}

pub(super) fn attribute(name: &str, op: &str, value: impl Into<Value>) -> Value {
    json!({"attribute": name, "op": op, "value": value.into()})
}

pub(super) fn within_last(name: &str, days: u32) -> Value {
    attribute(name, "within_last", format!("{days} days"))
}

pub(super) fn all(rules: impl IntoIterator<Item = Value>) -> Value {
    json!({"all": Value::from_iter(rules)})
}

pub(super) fn any(rules: impl IntoIterator<Item = Value>) -> Value {
    json!({"any": Value::from_iter(rules)})
}

/// One of the values of a column, each used equally often.
fn value(prefix: &str, number: u32, count: u32) -> String {
    format!("{prefix}{}", number * 61 % count)
}

fn day(year: u32, number: u32) -> String {
    format!(
        "{}-{:02}-{:02}",
        year + number % 3,
        1 + number % 12,
        1 + number % 28
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_differ_and_a_quarter_reads_the_score() {
        let rules: Vec<String> = (0..100).map(|number| rule(number).to_string()).collect();
        let mut distinct = rules.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), rules.len());
        let readers = rules.iter().filter(|rule| rule.contains("\"score\""));
        assert_eq!(readers.count(), 25);
    }
}
