//! Deciding memberships from customers' rows and events as they stand: for events that have come, for the clock, and for
//! whoever cannot tell what has changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use actionflow_core::segment::truth::Truth;
use pgrx::prelude::*;
use serde_json::Value;

use super::cache::Segments;
use super::crossings::{Crossings, Schedule};
use super::facts::{self, CustomerFacts, Facts, Needs, StoredEvent};
use super::matcher::{Events, Matcher};
use super::nested;
use super::rows::{self, CustomerRow, Lock};
use crate::catalog::Watched;
use crate::clock;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::Cause;
use crate::pg::lock;

/// An event that some segment counts.
pub(crate) struct Counted {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) user_id: String,
    pub(crate) at: i64,
    pub(crate) properties: Value,
    pub(crate) cause: Cause,
}

/// Enough customers for one query, few enough that their events fit in memory.
const CHUNK: usize = 1_000;

/// Keeps events that segments count, and finds who enters or exits by them.
pub(crate) fn count(
    engine: &mut Engine,
    segments: &Segments,
    events: Vec<Counted>,
) -> Result<(), Error> {
    let now = engine.segments_now;
    let mut crossings = Crossings::default();
    for chunk in events.chunks(CHUNK) {
        for (relation, matcher) in segments.matchers() {
            let relevant: Vec<&Counted> = chunk
                .iter()
                .filter(|event| !matcher.counting(&event.name).is_empty())
                .collect();
            if relevant.is_empty() {
                continue;
            }
            if let Some(watched) = engine
                .catalog
                .watched(pg_sys::Oid::from(relation))
                .map(Rc::clone)
            {
                count_over(&watched, matcher, &relevant, now, &mut crossings)?;
            }
        }
        keep(chunk)?;
        write(&mut crossings, engine, segments, Schedule::Sooner)?;
    }
    Ok(())
}

fn write(
    crossings: &mut Crossings,
    engine: &mut Engine,
    segments: &Segments,
    schedule: Schedule,
) -> Result<i64, Error> {
    let now = engine.segments_now;
    crossings.write(now, schedule, Some(engine), segments)
}

fn count_over(
    watched: &Watched,
    matcher: &Matcher,
    events: &[&Counted],
    now: i64,
    crossings: &mut Crossings,
) -> Result<(), Error> {
    let mut by_customer: BTreeMap<&str, Vec<&Counted>> = BTreeMap::new();
    for event in events {
        nested::remember_counted(&event.user_id);
        by_customer.entry(&event.user_id).or_default().push(event);
    }
    let user_ids: Vec<String> = by_customer.keys().map(|id| (*id).to_owned()).collect();
    Spi::connect_mut(|_| {
        let mut found = rows::read(watched, matcher, &user_ids, Lock::Wait)?;
        let missing = absent(&user_ids, &found);
        for user_id in &missing {
            lock::expect_no_row(user_id);
        }
        // A row may have come while its lock was waited for.
        found.extend(rows::read(watched, matcher, &missing, Lock::Wait)?);
        rows::check_absent(watched, &absent(&missing, &found))?;
        let now = clock::segments_now_after_waiting(now)?;
        let mut needs = Needs::new();
        let mut concerned: HashMap<&str, BTreeSet<usize>> = HashMap::new();
        for row in &found {
            let segments = concerned.entry(&row.user_id).or_default();
            for event in by_customer.get(row.user_id.as_str()).into_iter().flatten() {
                segments.extend(matcher.counting(&event.name));
            }
            segments.retain(|segment| matcher.truth_without_events(*segment, row, now).is_none());
            for segment in segments.iter() {
                facts::add_needs(matcher, *segment, &mut needs);
            }
        }
        let users: Vec<String> = concerned
            .iter()
            .filter(|(_, segments)| !segments.is_empty())
            .map(|(user_id, _)| (*user_id).to_owned())
            .collect();
        let mut facts = Facts::read(&users, &needs, now)?;
        for row in &found {
            let new = by_customer
                .get(row.user_id.as_str())
                .map_or(&[][..], Vec::as_slice);
            let segments = &concerned[row.user_id.as_str()];
            if !segments.is_empty() {
                compare(
                    matcher,
                    row,
                    segments,
                    facts.take(&row.user_id),
                    new,
                    now,
                    crossings,
                );
            }
        }
        Ok(())
    })
}

fn absent(user_ids: &[String], found: &[CustomerRow]) -> Vec<String> {
    let found: HashSet<&str> = found.iter().map(|row| row.user_id.as_str()).collect();
    user_ids
        .iter()
        .filter(|id| !found.contains(id.as_str()))
        .cloned()
        .collect()
}

/// What the new events change for one customer.
fn compare(
    matcher: &Matcher,
    row: &CustomerRow,
    segments: &BTreeSet<usize>,
    mut facts: CustomerFacts,
    new: &[&Counted],
    now: i64,
    crossings: &mut Crossings,
) {
    let truths = |facts: &CustomerFacts| -> Vec<Truth> {
        let known = |condition: &_| facts.truth(condition, now);
        segments
            .iter()
            .map(|segment| matcher.truth(*segment, row, now, &Events::Known(&known)))
            .collect()
    };
    let before = truths(&facts);
    let mut cause = Cause::OUTSIDE;
    for event in new {
        if let Some(properties) = pgrx::IntoDatum::into_datum(pgrx::JsonB(event.properties.clone()))
        {
            facts.add(
                &event.name,
                StoredEvent {
                    at: event.at,
                    properties,
                },
            );
        }
        cause = event.cause;
    }
    for ((segment, before), after) in segments.iter().zip(before).zip(truths(&facts)) {
        note(
            matcher,
            *segment,
            &row.user_id,
            before,
            after,
            cause,
            crossings,
        );
    }
}

/// Notes what has become different for one customer and one segment.
pub(crate) fn note(
    matcher: &Matcher,
    segment: usize,
    user_id: &str,
    before: Truth,
    after: Truth,
    cause: Cause,
    crossings: &mut Crossings,
) {
    let id = matcher.segments[segment].segment.id;
    match (before.holds, after.holds) {
        (false, true) => crossings.enter(id, user_id, cause),
        (true, false) => crossings.exit(id, user_id, cause),
        _ => {}
    }
    if let Some(moment) = after.flips_at
        && before.flips_at.is_none_or(|before| moment < before)
    {
        crossings.look_again(id, user_id, moment);
    }
}

/// Keeps events for as long as segments count them.
fn keep(events: &[Counted]) -> Result<(), Error> {
    const SQL: &str =
        "insert into actionflow._segment_event (user_id, name, occurred_at, event_id, properties)
         select e.user_id, e.name, e.occurred_at, e.event_id, e.properties::jsonb
         from unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::text[])
             as e (user_id, name, occurred_at, event_id, properties)
         on conflict do nothing";
    let users: Vec<&str> = events.iter().map(|event| event.user_id.as_str()).collect();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    let moments: Vec<_> = events
        .iter()
        .map(|event| clock::from_unix_microseconds(event.at))
        .collect();
    let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
    let properties: Vec<String> = events
        .iter()
        .map(|event| event.properties.to_string())
        .collect();
    let types = [
        pg_sys::TEXTARRAYOID,
        pg_sys::TEXTARRAYOID,
        pg_sys::TIMESTAMPTZARRAYOID,
        pg_sys::INT8ARRAYOID,
        pg_sys::TEXTARRAYOID,
    ];
    Spi::connect_mut(|client| {
        let statement = super::prepared::statement(client, SQL, &types)?;
        let arguments = [
            users.into(),
            names.into(),
            moments.into(),
            ids.into(),
            properties.into(),
        ];
        client.update(&*statement, None, &arguments)?;
        Ok(())
    })
}

/// Which segments to decide for a customer.
pub(crate) enum Wanted<'a> {
    /// All over the table.
    All,
    /// These, by id, for each customer.
    Pairs(&'a HashMap<String, Vec<i64>>),
}

/// Brings memberships to what customers' rows and events say, whatever they were before. Returns the customers whose rows
/// somebody is changing, and who are left out.
pub(crate) fn decide(
    watched: &Watched,
    matcher: &Matcher,
    user_ids: &[String],
    wanted: &Wanted<'_>,
    lock: Lock,
    now: i64,
    crossings: &mut Crossings,
) -> Result<Vec<String>, Error> {
    let places: HashMap<i64, usize> = matcher
        .segments
        .iter()
        .enumerate()
        .map(|(place, member)| (member.segment.id, place))
        .collect();
    let all: Vec<usize> = (0..matcher.segments.len()).collect();
    let mut skipped = Vec::new();
    for chunk in user_ids.chunks(CHUNK) {
        Spi::connect_mut(|_| -> Result<(), Error> {
            let found = rows::read(watched, matcher, chunk, lock)?;
            let now = clock::segments_now_after_waiting(now)?;
            let missing = absent(chunk, &found);
            let locked: HashSet<String> = match lock {
                Lock::Skip => rows::existing(watched, &missing)?.into_iter().collect(),
                _ => HashSet::new(),
            };
            let segments_of = |user_id: &str| -> Vec<usize> {
                match wanted {
                    Wanted::All => all.clone(),
                    Wanted::Pairs(pairs) => pairs
                        .get(user_id)
                        .map_or(&[][..], Vec::as_slice)
                        .iter()
                        .filter_map(|id| places.get(id).copied())
                        .collect(),
                }
            };
            decide_rows(matcher, &found, &segments_of, now, crossings)?;
            for user_id in missing {
                if locked.contains(&user_id) {
                    skipped.push(user_id);
                    continue;
                }
                for segment in segments_of(&user_id) {
                    let id = matcher.segments[segment].segment.id;
                    crossings.exit(id, &user_id, Cause::OUTSIDE);
                    crossings.settle(id, &user_id);
                }
            }
            Ok(())
        })?;
    }
    Ok(skipped)
}

fn decide_rows(
    matcher: &Matcher,
    found: &[CustomerRow],
    segments_of: &dyn Fn(&str) -> Vec<usize>,
    now: i64,
    crossings: &mut Crossings,
) -> Result<(), Error> {
    let mut needs = Needs::new();
    let mut users = Vec::new();
    let mut undecided: Vec<(&CustomerRow, usize)> = Vec::new();
    let mut note = |user_id: &str, segment: usize, truth: Truth| {
        let id = matcher.segments[segment].segment.id;
        if truth.holds {
            crossings.enter(id, user_id, Cause::OUTSIDE);
        } else {
            crossings.exit(id, user_id, Cause::OUTSIDE);
        }
        match truth.flips_at {
            Some(moment) => crossings.look_again(id, user_id, moment),
            None => crossings.settle(id, user_id),
        }
    };
    for row in found {
        for segment in segments_of(&row.user_id) {
            match matcher.truth_without_events(segment, row, now) {
                Some(truth) => note(&row.user_id, segment, truth),
                None => {
                    facts::add_needs(matcher, segment, &mut needs);
                    undecided.push((row, segment));
                }
            }
        }
        if undecided
            .last()
            .is_some_and(|(last, _)| last.user_id == row.user_id)
        {
            users.push(row.user_id.clone());
        }
    }
    let mut facts = Facts::read(&users, &needs, now)?;
    let mut current: (String, CustomerFacts) = (String::new(), CustomerFacts::default());
    for (row, segment) in undecided {
        if current.0 != row.user_id {
            current = (row.user_id.clone(), facts.take(&row.user_id));
        }
        let known = |condition: &_| current.1.truth(condition, now);
        note(
            &row.user_id,
            segment,
            matcher.truth(segment, row, now, &Events::Known(&known)),
        );
    }
    Ok(())
}
