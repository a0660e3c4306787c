//! When the clock alone may change what a rule says, as SQL: never later than it does.

use actionflow_core::segment::formula::Formula;
use pgrx::spi::quote_identifier;

use super::Writer;
use super::probe::{interval, subject};
use crate::error::Error;
use crate::pg::types::Kind;
use crate::segment::condition::{Condition, EventCondition, Test};

impl Writer<'_> {
    /// The moment before which the rule's conditions on attributes do not change by the clock alone, and a condition for
    /// the rows that have one; `None` when no row has.
    pub(crate) fn flip(&self) -> Result<Option<(String, String)>, Error> {
        self.flip_of(&self.rule.formula)
    }

    fn flip_of(&self, formula: &Formula) -> Result<Option<(String, String)>, Error> {
        let (parts, is_all) = match formula {
            Formula::Is(index) | Formula::IsNot(index) => return self.condition_flip(*index),
            Formula::All(parts) => (parts, true),
            Formula::Any(parts) => (parts, false),
        };
        let (mut constant, mut moments, mut filters) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match self.flip_of(part)? {
                Some((moment, filter)) => {
                    moments.push(moment);
                    filters.push(filter);
                }
                None if self.is_constant(part) => constant.push(self.formula(part)?),
                None => {}
            }
        }
        if moments.is_empty() {
            return Ok(None);
        }
        let moment = format!("least({})", moments.join(", "));
        let filter = format!("({})", filters.join(" or "));
        // Of "all", a part that does not hold and never will decides; of "any", one that holds and always will.
        let decides = constant.join(if is_all { " and " } else { " or " });
        Ok(Some(match (decides.is_empty(), is_all) {
            (true, _) => (moment, filter),
            (false, true) => (
                format!("case when {decides} then {moment} end"),
                format!("({decides} and {filter})"),
            ),
            (false, false) => (
                format!("case when ({decides}) is not true then {moment} end"),
                format!("(({decides}) is not true and {filter})"),
            ),
        }))
    }

    /// Whether the clock has no say in a part; events have their own moments.
    fn is_constant(&self, formula: &Formula) -> bool {
        let mut is_constant = true;
        formula.conditions(&mut |index| {
            if matches!(
                self.rule.conditions.get(index).map(|c| &**c),
                Some(Condition::Event(_))
            ) {
                is_constant = false;
            }
        });
        is_constant
    }

    fn condition_flip(&self, index: usize) -> Result<Option<(String, String)>, Error> {
        let Some(Condition::Attribute(attribute)) = self.rule.conditions.get(index).map(|c| &**c)
        else {
            return Ok(None);
        };
        let subject = subject(&attribute.probe, &quote_identifier(&attribute.column));
        let (value, now) = self.clocked(&subject, &attribute.probe.data_type);
        // Dates go on for longer than timestamps.
        let value = match attribute.probe.data_type.kind() {
            Kind::Date => {
                format!("(case when {value} < '294276-01-01'::date then {value}::timestamp end)")
            }
            _ => value,
        };
        let (moment, filter) = match attribute.probe.test {
            Test::WithinLast(duration) => {
                let duration = interval(duration);
                (
                    format!(
                        "case when {value} > {now} then {value} when {value} > {now} - {duration} then {value} + {duration} end"
                    ),
                    format!("({value} > {now} - {duration} and isfinite({value}))"),
                )
            }
            Test::WithinNext(duration) => {
                let duration = interval(duration);
                (
                    format!(
                        "case when {value} > {now} + {duration} then {value} - {duration} when {value} > {now} then {value} end"
                    ),
                    format!("({value} > {now} and isfinite({value}))"),
                )
            }
            _ => return Ok(None),
        };
        let moment = match attribute.probe.data_type.kind() {
            Kind::Date | Kind::Timestamp => format!("(({moment}) at time zone 'UTC')"),
            _ => format!("({moment})"),
        };
        Ok(Some((moment, filter)))
    }

    /// For every condition on events: a query for customers and the first moment at which the events that count for them
    /// change by the clock alone.
    pub(crate) fn event_flips(&self) -> Result<Vec<String>, Error> {
        self.rule
            .events()
            .map(|event| self.event_flip(event))
            .collect()
    }

    fn event_flip(&self, event: &EventCondition) -> Result<String, Error> {
        let now = format!("{}::timestamptz", self.now);
        let coming = format!("min(e.occurred_at) filter (where e.occurred_at > {now})");
        let (moment, since) = match event.within_us {
            None => (coming, format!("e.occurred_at > {now}")),
            Some(within) => {
                let within = interval(within);
                (
                    format!(
                        "least({coming}, min(e.occurred_at) filter (where e.occurred_at <= {now}) + {within})"
                    ),
                    format!("e.occurred_at > {now} - {within}"),
                )
            }
        };
        Ok(format!(
            "select e.user_id, {moment} from {} as e where {} and {since} group by e.user_id",
            self.events,
            self.filtered(event)?
        ))
    }
}
