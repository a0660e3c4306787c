//! A bound rule as SQL over the columns of its table, for work on the whole table at once.
//!
//! Column names stand bare, so that the predicate can follow `from customers where`. Conditions on events are uncorrelated
//! subqueries, which Postgres hashes.

mod flip;
mod probe;

use std::fmt::Write as _;

use actionflow_core::segment::formula::Formula;
use actionflow_core::segment::window;
use pgrx::datum::AnyNumeric;
use pgrx::spi::quote_literal;

use self::probe::{interval, path_literal, sign};
use super::bind::BoundRule;
use super::condition::{Condition, EventCondition};
use crate::error::Error;

/// Writes one rule.
pub(crate) struct Writer<'a> {
    pub(crate) rule: &'a BoundRule,
    /// An expression for the customer's id as text.
    pub(crate) id: &'a str,
    /// An expression for the time that counts as now.
    pub(crate) now: &'a str,
    /// The relation that has the events.
    pub(crate) events: &'a str,
}

impl Writer<'_> {
    /// True for the rows of the segment's members; NULL or false for all others.
    pub(crate) fn predicate(&self) -> Result<String, Error> {
        self.formula(&self.rule.formula)
    }

    fn formula(&self, formula: &Formula) -> Result<String, Error> {
        let join = |parts: &[Formula], word: &str, empty: &str| -> Result<String, Error> {
            if parts.is_empty() {
                return Ok(empty.to_owned());
            }
            let parts: Vec<String> = parts
                .iter()
                .map(|part| self.formula(part))
                .collect::<Result<_, Error>>()?;
            Ok(format!("({})", parts.join(word)))
        };
        match formula {
            Formula::All(parts) => join(parts, " and ", "true"),
            Formula::Any(parts) => join(parts, " or ", "false"),
            Formula::Is(index) => self.condition(*index, false),
            Formula::IsNot(index) => self.condition(*index, true),
        }
    }

    fn condition(&self, index: usize, is_negated: bool) -> Result<String, Error> {
        let sql = match self
            .rule
            .conditions
            .get(index)
            .map(|condition| &**condition)
        {
            Some(Condition::Attribute(attribute)) => self.attribute(attribute)?,
            // Never NULL.
            Some(Condition::Event(event)) => {
                let sql = self.event(event)?;
                return Ok(if is_negated {
                    format!("not {sql}")
                } else {
                    sql
                });
            }
            None => return Err(Error::Internal("a rule without its condition".to_owned())),
        };
        Ok(if is_negated {
            format!("{sql} is not true")
        } else {
            sql
        })
    }

    fn event(&self, event: &EventCondition) -> Result<String, Error> {
        let zero = AnyNumeric::from(0);
        let holds_without = window::holds_without_events(&event.count, &event.sum, &zero);
        let mut having = Vec::new();
        for (comparison, number) in &event.count {
            having.push(format!("count(*) {} {number}", sign(*comparison)));
        }
        if let Some(path) = &event.sum_of {
            let amount = format!("e.properties #> {}", path_literal(path));
            let sum = format!(
                "coalesce(sum(case when jsonb_typeof({amount}) = 'number' then ({amount})::numeric end), 0)"
            );
            for (comparison, number) in &event.sum {
                having.push(format!("{sum} {} {number}", sign(*comparison)));
            }
        }
        let mut having = having.join(" and ");
        if holds_without {
            having = format!("not ({having})");
        }
        let subquery = format!(
            "select e.user_id from {} as e where {} group by e.user_id having {having}",
            self.events,
            self.counted(event)?
        );
        let word = if holds_without { "not in" } else { "in" };
        Ok(format!("({} {word} ({subquery}))", self.id))
    }

    /// The condition for rows `e` of events that count now.
    fn counted(&self, event: &EventCondition) -> Result<String, Error> {
        let now = format!("{}::timestamptz", self.now);
        let mut sql = self.filtered(event)?;
        let _ = write!(sql, " and e.occurred_at <= {now}");
        if let Some(within) = event.within_us {
            let _ = write!(sql, " and e.occurred_at > {now} - {}", interval(within));
        }
        Ok(sql)
    }

    fn filtered(&self, event: &EventCondition) -> Result<String, Error> {
        let mut sql = format!("e.name = {}", quote_literal(&event.name));
        for (probe, is_negated) in &event.filters {
            let filter = self.probe(probe, "e.properties")?;
            let suffix = if *is_negated { " is not true" } else { "" };
            let _ = write!(sql, " and {filter}{suffix}");
        }
        Ok(sql)
    }
}
