//! Who enters and exits: written as memberships, and emitted as events where that changed something.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::cache::Segments;
use super::prepared;
use crate::clock;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::{Cause, Event, Mode};
use crate::pg::snapshot;

pub(crate) const ENTERED: &str = "segment-entered";
pub(crate) const EXITED: &str = "segment-exited";

/// Rows held in memory before they are written.
const FLUSH_AT: usize = 5_000;

/// Changes of memberships that are still to be written.
#[derive(Default)]
pub(crate) struct Crossings {
    entering: Vec<Membership>,
    exiting: Vec<Membership>,
    flips: Vec<Flip>,
    /// Flips that no longer have a moment.
    settled: Vec<Membership>,
}

struct Membership {
    segment: i64,
    user_id: String,
    cause: Cause,
}

struct Flip {
    segment: i64,
    user_id: String,
    check_at: i64,
}

/// How the moment of the next look relates to the one that is written already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// Only if it is sooner: a look too early costs little, and whoever looks writes the next moment.
    Sooner,
    /// In its place.
    Exactly,
}

impl Crossings {
    pub(crate) fn enter(&mut self, segment: i64, user_id: &str, cause: Cause) {
        self.entering.push(Membership {
            segment,
            user_id: user_id.to_owned(),
            cause,
        });
    }

    pub(crate) fn exit(&mut self, segment: i64, user_id: &str, cause: Cause) {
        self.exiting.push(Membership {
            segment,
            user_id: user_id.to_owned(),
            cause,
        });
    }

    pub(crate) fn look_again(&mut self, segment: i64, user_id: &str, check_at: i64) {
        self.flips.push(Flip {
            segment,
            user_id: user_id.to_owned(),
            check_at,
        });
    }

    /// No moment is known at which the membership may change by the clock alone.
    pub(crate) fn settle(&mut self, segment: i64, user_id: &str) {
        self.settled.push(Membership {
            segment,
            user_id: user_id.to_owned(),
            cause: Cause::OUTSIDE,
        });
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entering.len() + self.exiting.len() + self.flips.len() + self.settled.len() >= FLUSH_AT
    }

    /// Writes what has gathered; returns how many memberships changed. With an engine, each change is an event.
    pub(crate) fn write(
        &mut self,
        now: i64,
        schedule: Schedule,
        engine: Option<&mut Engine>,
        segments: &Segments,
    ) -> Result<i64, Error> {
        let Self {
            mut entering,
            mut exiting,
            mut flips,
            settled,
        } = std::mem::take(self);
        // In one order, so that two sessions never wait for each other in a circle.
        entering.sort_by(|a, b| (a.segment, &a.user_id).cmp(&(b.segment, &b.user_id)));
        exiting.sort_by(|a, b| (a.segment, &a.user_id).cmp(&(b.segment, &b.user_id)));
        flips.sort_by(|a, b| {
            (a.segment, &a.user_id, a.check_at).cmp(&(b.segment, &b.user_id, b.check_at))
        });
        flips.dedup_by(|later, earlier| {
            later.segment == earlier.segment && later.user_id == earlier.user_id
        });
        let exited = change(DELETE, &exiting, now)?;
        if exited.len() < exiting.len() && snapshot::is_frozen() {
            check_nobody_is_left(&exiting)?;
        }
        let entered = change(INSERT, &entering, now)?;
        write_flips(&flips, schedule)?;
        change(DELETE_FLIPS, &settled, now)?;
        let changed = exited.len() + entered.len();
        if let Some(engine) = engine {
            emit(engine, EXITED, &exiting, &exited, segments)?;
            emit(engine, ENTERED, &entering, &entered, segments)?;
        }
        Ok(i64::try_from(changed).unwrap_or(i64::MAX))
    }
}

const INSERT: &str = "insert into actionflow._segment_member as m (segment_id, user_id, entered_at)
     select c.segment_id, c.user_id, $3 from unnest($1::bigint[], $2::text[]) as c (segment_id, user_id)
     on conflict do nothing
     returning m.segment_id, m.user_id";
const DELETE: &str = "delete from actionflow._segment_member as m
     using unnest($1::bigint[], $2::text[]) as c (segment_id, user_id)
     where m.segment_id = c.segment_id and m.user_id = c.user_id and $3::timestamptz is not null
     returning m.segment_id, m.user_id";
const DELETE_FLIPS: &str = "delete from actionflow._segment_flip as f
     using unnest($1::bigint[], $2::text[]) as c (segment_id, user_id)
     where f.segment_id = c.segment_id and f.user_id = c.user_id and $3::timestamptz is not null
     returning f.segment_id, f.user_id";
const FLIPS_SOONER: &str =
    "insert into actionflow._segment_flip as f (segment_id, user_id, check_at)
     select c.segment_id, c.user_id, c.check_at
     from unnest($1::bigint[], $2::text[], $3::timestamptz[]) as c (segment_id, user_id, check_at)
     on conflict on constraint _segment_flip_pkey do update set check_at = excluded.check_at
     where excluded.check_at < f.check_at";
const FLIPS_EXACTLY: &str =
    "insert into actionflow._segment_flip as f (segment_id, user_id, check_at)
     select c.segment_id, c.user_id, c.check_at
     from unnest($1::bigint[], $2::text[], $3::timestamptz[]) as c (segment_id, user_id, check_at)
     on conflict on constraint _segment_flip_pkey do update set check_at = excluded.check_at
     where excluded.check_at <> f.check_at";

/// Runs one of the statements; returns the positions of the memberships that it changed.
fn change(sql: &'static str, list: &[Membership], now: i64) -> Result<Vec<usize>, Error> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let segments: Vec<i64> = list.iter().map(|item| item.segment).collect();
    let users: Vec<&str> = list.iter().map(|item| item.user_id.as_str()).collect();
    let now: TimestampWithTimeZone = clock::from_unix_microseconds(now);
    Spi::connect_mut(|client| {
        let statement = prepared::statement(
            client,
            sql,
            &[
                pg_sys::INT8ARRAYOID,
                pg_sys::TEXTARRAYOID,
                pg_sys::TIMESTAMPTZOID,
            ],
        )?;
        let rows = client.update(
            &*statement,
            None,
            &[segments.into(), users.into(), now.into()],
        )?;
        let mut changed = Vec::with_capacity(rows.len());
        let mut places: std::collections::HashMap<(i64, &str), usize> =
            std::collections::HashMap::new();
        if !rows.is_empty() {
            places = list
                .iter()
                .enumerate()
                .map(|(place, item)| ((item.segment, item.user_id.as_str()), place))
                .collect();
        }
        for row in rows {
            if let (Some(segment), Some(user_id)) = (row.get::<i64>(1)?, row.get::<&str>(2)?) {
                changed.extend(places.get(&(segment, user_id)).copied());
            }
        }
        changed.sort_unstable();
        Ok(changed)
    })
}

/// A transaction that sees an old state cannot delete what has come since, so it has to be tried again.
fn check_nobody_is_left(list: &[Membership]) -> Result<(), Error> {
    const SQL: &str = "select from actionflow._segment_member as m
         join unnest($1::bigint[], $2::text[]) as c (segment_id, user_id)
             on m.segment_id = c.segment_id and m.user_id = c.user_id
         limit 1";
    let segments: Vec<i64> = list.iter().map(|item| item.segment).collect();
    let users: Vec<&str> = list.iter().map(|item| item.user_id.as_str()).collect();
    let is_left = Spi::connect(|_| -> Result<bool, Error> {
        Ok(!snapshot::latest(SQL, &[segments.into(), users.into()])?.is_empty())
    })?;
    if is_left {
        Err(Error::Serialization)
    } else {
        Ok(())
    }
}

fn write_flips(flips: &[Flip], schedule: Schedule) -> Result<(), Error> {
    if flips.is_empty() {
        return Ok(());
    }
    let segments: Vec<i64> = flips.iter().map(|flip| flip.segment).collect();
    let users: Vec<&str> = flips.iter().map(|flip| flip.user_id.as_str()).collect();
    let moments: Vec<TimestampWithTimeZone> = flips
        .iter()
        .map(|flip| clock::from_unix_microseconds(flip.check_at))
        .collect();
    let sql = match schedule {
        Schedule::Sooner => FLIPS_SOONER,
        Schedule::Exactly => FLIPS_EXACTLY,
    };
    Spi::connect_mut(|client| {
        let types = [
            pg_sys::INT8ARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
        ];
        let statement = prepared::statement(client, sql, &types)?;
        client.update(
            &*statement,
            None,
            &[segments.into(), users.into(), moments.into()],
        )?;
        Ok(())
    })
}

fn emit(
    engine: &mut Engine,
    name: &str,
    list: &[Membership],
    changed: &[usize],
    segments: &Segments,
) -> Result<(), Error> {
    for place in changed {
        let item = &list[*place];
        let mut properties: Map<String, Value> = Map::new();
        properties.insert(
            "segment".to_owned(),
            json!(segments.segment(item.segment).map(|segment| &segment.name)),
        );
        let id = engine.next_event_id();
        let occurred_at = engine.stamp.now;
        engine.emit(Event {
            id,
            name: name.to_owned(),
            user_id: item.user_id.clone(),
            properties,
            mode: Mode::Live,
            origin: item.cause.origin,
            depth: item.cause.depth,
            occurred_at,
            profile: None,
            crossing: Some((item.segment, name == EXITED)),
        })?;
    }
    Ok(())
}
