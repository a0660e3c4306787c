//! Customers' events, as far as segments count them.

use std::collections::HashMap;

use actionflow_core::segment::truth::Truth;
use actionflow_core::segment::window::{self, Fact, Window};
use pgrx::datum::{AnyNumeric, TimestampWithTimeZone};
use pgrx::pg_sys::Datum;

use super::condition::EventCondition;
use super::matcher::Matcher;
use crate::clock;
use crate::error::Error;
use crate::pg::{jsonb, snapshot};

/// The events of some customers; the values live as long as the memory context of the query that read them.
#[derive(Default)]
pub(crate) struct Facts {
    by_customer: HashMap<String, CustomerFacts>,
}

/// The events of one customer by name, each list in the order of their time.
#[derive(Default)]
pub(crate) struct CustomerFacts {
    by_name: HashMap<String, Vec<StoredEvent>>,
}

#[derive(Clone, Copy)]
pub(crate) struct StoredEvent {
    pub(crate) at: i64,
    /// The properties, as jsonb.
    pub(crate) properties: Datum,
}

/// Names of events and how far back each is needed, in microseconds; `None`: all of them.
pub(crate) type Needs = HashMap<String, Option<i64>>;

/// Adds what a segment needs.
pub(crate) fn add_needs(matcher: &Matcher, segment: usize, needs: &mut Needs) {
    for event in matcher.events_of(segment) {
        needs
            .entry(event.name.clone())
            .and_modify(|window| *window = window.zip(event.within_us).map(|(a, b)| a.max(b)))
            .or_insert(event.within_us);
    }
}

impl Facts {
    /// Reads the events of these customers, those that were emitted while this transaction waited for their lock included.
    /// To be called inside an SPI connection, whose memory the values lie in.
    pub(crate) fn read(user_ids: &[String], needs: &Needs, now: i64) -> Result<Self, Error> {
        let mut facts = Self::default();
        if user_ids.is_empty() || needs.is_empty() {
            return Ok(facts);
        }
        let (names, since): (Vec<&str>, Vec<TimestampWithTimeZone>) = needs
            .iter()
            .map(|(name, window)| {
                let since = window.map_or(i64::MIN, |window| now.saturating_sub(window));
                (name.as_str(), clock::from_unix_microseconds(since))
            })
            .unzip();
        // The name is compared in a way that no index serves, so that customers are looked up by their ids and never all
        // events of a name.
        const SQL: &str = "select u.user_id, n.name, e.occurred_at, e.properties
             from unnest($1::text[]) as u (user_id)
             cross join unnest($2::text[], $3::timestamptz[]) as n (name, since)
             cross join lateral (
                 select e.occurred_at, e.properties from actionflow._segment_event as e
                 where e.user_id = u.user_id and e.name || '' = n.name and e.occurred_at > n.since
                 order by e.occurred_at
             ) as e";
        let arguments = [user_ids.to_vec().into(), names.into(), since.into()];
        for row in snapshot::latest(SQL, &arguments)?.rows() {
            let at = row.get::<TimestampWithTimeZone>(3);
            if let (Some(user_id), Some(name), Some(at), Some(properties)) =
                (row.get::<String>(1), row.get::<String>(2), at, row.datum(4))
            {
                let event = StoredEvent {
                    at: clock::unix_microseconds(at),
                    properties,
                };
                facts
                    .by_customer
                    .entry(user_id)
                    .or_default()
                    .by_name
                    .entry(name)
                    .or_default()
                    .push(event);
            }
        }
        Ok(facts)
    }

    /// A customer's events; an empty list when there are none.
    pub(crate) fn take(&mut self, user_id: &str) -> CustomerFacts {
        self.by_customer.remove(user_id).unwrap_or_default()
    }
}

impl CustomerFacts {
    pub(crate) fn add(&mut self, name: &str, event: StoredEvent) {
        let events = self.by_name.entry(name.to_owned()).or_default();
        let place = events.partition_point(|earlier| earlier.at <= event.at);
        events.insert(place, event);
    }

    pub(crate) fn truth(&self, condition: &EventCondition, now: i64) -> Truth {
        let events = self
            .by_name
            .get(&condition.name)
            .map_or(&[][..], Vec::as_slice);
        let counted: Vec<Fact<AnyNumeric>> = events
            .iter()
            .filter(|event| {
                condition.filters.iter().all(|(probe, is_negated)| {
                    probe.truth(Some(event.properties), now).holds != *is_negated
                })
            })
            .map(|event| Fact {
                at: event.at,
                amount: condition
                    .sum_of
                    .as_ref()
                    .and_then(|path| jsonb::number(path.find(event.properties)?)),
            })
            .collect();
        let window = Window {
            count: &condition.count,
            sum: &condition.sum,
            within_us: condition.within_us,
        };
        window::truth(&counted, &window, AnyNumeric::from(0), now)
    }
}
