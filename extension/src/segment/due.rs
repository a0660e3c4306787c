//! What the clock alone changes: memberships whose next look is due.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::build;
use super::cache;
use super::crossings::{Crossings, Schedule};
use super::rows::Lock;
use super::state::{self, Wanted};
use crate::clock;
use crate::engine::Engine;
use crate::error::Error;
use crate::pg::{lock, snapshot};

/// Looks at memberships that are due, the longest due first: `{looked at, changed}`. Those whose customer somebody is
/// changing are left for a moment later; their writer may decide them.
#[pg_extern(volatile, strict, parallel_unsafe)]
fn _look_at_due(max_checks: i32, now: TimestampWithTimeZone) -> Result<Vec<i64>, ErrorReport> {
    let (checked, changed) = look(max_checks, now)?;
    Ok(vec![checked, changed])
}

fn look(max_checks: i32, now: TimestampWithTimeZone) -> Result<(i64, i64), Error> {
    if !is_anything_due(now)? {
        return Ok((0, 0));
    }
    let mut engine = Engine::new()?;
    engine.segments_now = clock::unix_microseconds(now);
    // Like a writer of the tables, and before anything else is locked: whoever changes a segment waits for writers, keeps
    // them out for a moment, and decides again for those whom they have touched.
    for (relation, _) in cache::current()?.matchers() {
        lock::announce_writing(pg_sys::Oid::from(relation));
    }
    let is_building = lock::is_build_announced();
    let segments = cache::current()?;
    let due = due(max_checks, now)?;
    let mut by_relation: HashMap<u32, HashMap<String, Vec<i64>>> = HashMap::new();
    let checked = due.len();
    let mut crossings = Crossings::default();
    for (segment_id, user_id) in due {
        match segments.segment(segment_id) {
            Some(segment) => by_relation
                .entry(segment.relation)
                .or_default()
                .entry(user_id)
                .or_default()
                .push(segment_id),
            // The segment has been deleted.
            None => crossings.settle(segment_id, &user_id),
        }
    }
    let mut changed = 0;
    for (relation, pairs) in by_relation {
        let watched = engine
            .catalog
            .watched(pg_sys::Oid::from(relation))
            .map(Rc::clone);
        let (Some(matcher), Some(watched)) = (segments.over(relation), watched) else {
            continue;
        };
        let mut user_ids: Vec<String> = pairs.keys().cloned().collect();
        user_ids.sort_unstable();
        if is_building {
            build::note_touched(&user_ids)?;
        }
        let now = engine.segments_now;
        let wanted = Wanted::Pairs(&pairs);
        let skipped = state::decide(
            &watched,
            matcher,
            &user_ids,
            &wanted,
            Lock::Skip,
            now,
            &mut crossings,
        )?;
        changed += crossings.write(now, Schedule::Exactly, Some(&mut engine), &segments)?;
        postpone(&skipped, &pairs, clock::from_unix_microseconds(now))?;
    }
    crossings.write(engine.segments_now, Schedule::Exactly, None, &segments)?;
    engine.finish()?;
    Ok((i64::try_from(checked).unwrap_or(i64::MAX), changed))
}

fn is_anything_due(now: TimestampWithTimeZone) -> Result<bool, Error> {
    const SQL: &str = "select from actionflow._segment_flip as f where f.check_at <= $1 order by f.check_at limit 1";
    Spi::connect(|_| Ok(!snapshot::allowed(SQL, &[now.into()])?.is_empty()))
}

/// Locked, so that of two workers each gets its own.
fn due(max_checks: i32, now: TimestampWithTimeZone) -> Result<Vec<(i64, String)>, Error> {
    const SQL: &str = "select f.segment_id, f.user_id from actionflow._segment_flip as f
         where f.check_at <= $1 order by f.check_at limit $2 for update skip locked";
    Spi::connect_mut(|_| {
        let found = snapshot::allowed(SQL, &[now.into(), max_checks.into()])?;
        let due = found
            .rows()
            .filter_map(|row| row.get::<i64>(1).zip(row.get::<String>(2)));
        Ok(due.collect())
    })
}

fn postpone(
    skipped: &[String],
    pairs: &HashMap<String, Vec<i64>>,
    now: TimestampWithTimeZone,
) -> Result<(), Error> {
    if skipped.is_empty() {
        return Ok(());
    }
    let (mut segments, mut users) = (Vec::new(), Vec::new());
    for user_id in skipped {
        for segment in pairs.get(user_id).into_iter().flatten() {
            segments.push(*segment);
            users.push(user_id.as_str());
        }
    }
    Ok(Spi::run_with_args(
        "update actionflow._segment_flip as f set check_at = $3 + interval '200 milliseconds'
         from unnest($1::bigint[], $2::text[]) as c (segment_id, user_id)
         where f.segment_id = c.segment_id and f.user_id = c.user_id",
        &[segments.into(), users.into(), now.into()],
    )?)
}
