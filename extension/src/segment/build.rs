//! Making a segment while others write to its table.
//!
//! Whoever builds a segment announces it, waits for the transactions that have written before, reads the table, and at
//! last, for a moment, keeps writers out. Writers that see the announcement leave behind whom they have changed, because
//! they do not know of the segment yet; for those the builder decides again at the end.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::cache;
use super::crossings::{Crossings, Schedule};
use super::rows::Lock;
use super::state::{self, Wanted};
use crate::catalog::Watched;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::Cause;
use crate::pg::{lock, snapshot};

/// Leaves behind who has been changed while a segment is being built.
pub(crate) fn note_touched(user_ids: &[String]) -> Result<(), Error> {
    Ok(Spi::run_with_args(
        "insert into actionflow._segment_touched (user_id) select u from unnest($1::text[]) as u",
        &[user_ids.to_vec().into()],
    )?)
}

/// Everybody in a table is about to go.
pub(crate) fn truncated(engine: &mut Engine, watched: &Watched, table: &str) -> Result<(), Error> {
    let ids = format!("select {} from only {table} as t", watched.id_sql);
    if engine.is_building {
        Spi::run(&format!(
            "insert into actionflow._segment_touched (user_id) select d.id from ({ids}) as d (id) where d.id is not null"
        ))?;
    }
    let segments = cache::current()?;
    let Some(matcher) = segments.over(watched.root) else {
        return Ok(());
    };
    let over: Vec<i64> = matcher
        .segments
        .iter()
        .map(|member| member.segment.id)
        .collect();
    let mut crossings = Crossings::default();
    Spi::connect(|_| -> Result<(), Error> {
        let members = format!(
            "select m.segment_id, m.user_id from actionflow._segment_member as m
             where m.segment_id = any($1) and m.user_id in ({ids})"
        );
        // The table is locked, so nobody changes them any more.
        for row in snapshot::latest(&members, &[over.into()])?.rows() {
            if let (Some(segment), Some(user_id)) = (row.get::<i64>(1), row.get::<String>(2)) {
                crossings.exit(segment, &user_id, Cause::OUTSIDE);
            }
        }
        Ok(())
    })?;
    let now = engine.segments_now;
    crossings.write(now, Schedule::Sooner, Some(engine), &segments)?;
    Ok(())
}

/// Announces that a segment is being built, and waits for the writers of these tables.
#[pg_extern(volatile, strict, parallel_unsafe)]
fn _begin_build(relations: Vec<pg_sys::Oid>) -> Result<(), ErrorReport> {
    lock::announce_build();
    for relation in relations {
        lock::wait_for_writers(relation);
    }
    Ok(())
}

/// Decides one segment for these customers. Silent, nobody is told.
#[pg_extern(volatile, strict, parallel_unsafe)]
fn _decide_segment(
    segment_id: i64,
    user_ids: Vec<String>,
    is_silent: bool,
) -> Result<(), ErrorReport> {
    Ok(decide(segment_id, &user_ids, is_silent)?)
}

fn decide(segment_id: i64, user_ids: &[String], is_silent: bool) -> Result<(), Error> {
    let mut engine = Engine::new()?;
    let segments = cache::current()?;
    let segment = segments
        .segment(segment_id)
        .ok_or_else(|| Error::Internal("a segment that is being built is missing".to_owned()))?;
    let relation = pg_sys::Oid::from(segment.relation);
    let (Some(matcher), Some(watched)) = (
        segments.over(segment.relation),
        engine.catalog.watched(relation).map(Rc::clone),
    ) else {
        return Err(Error::Internal(
            "a segment is over a table that is not watched".to_owned(),
        ));
    };
    let pairs: HashMap<String, Vec<i64>> = user_ids
        .iter()
        .map(|id| (id.clone(), vec![segment_id]))
        .collect();
    let now = engine.segments_now;
    let mut crossings = Crossings::default();
    state::decide(
        &watched,
        matcher,
        user_ids,
        &Wanted::Pairs(&pairs),
        Lock::NotNeeded,
        now,
        &mut crossings,
    )?;
    let teller = (!is_silent).then_some(&mut engine);
    crossings.write(now, Schedule::Exactly, teller, &segments)?;
    engine.finish()
}

/// Writes who enters and who exits a segment, with their events.
#[pg_extern(volatile, strict, parallel_unsafe)]
fn _cross(segment_id: i64, exiting: Vec<String>, entering: Vec<String>) -> Result<(), ErrorReport> {
    Ok(cross(segment_id, &exiting, &entering)?)
}

fn cross(segment_id: i64, exiting: &[String], entering: &[String]) -> Result<(), Error> {
    let mut engine = Engine::new()?;
    let segments = cache::current()?;
    let now = engine.segments_now;
    let mut crossings = Crossings::default();
    for (list, is_exit) in [(exiting, true), (entering, false)] {
        for user_id in list {
            if is_exit {
                crossings.exit(segment_id, user_id, Cause::OUTSIDE);
            } else {
                crossings.enter(segment_id, user_id, Cause::OUTSIDE);
            }
            if crossings.is_full() {
                crossings.write(now, Schedule::Sooner, Some(&mut engine), &segments)?;
            }
        }
    }
    crossings.write(now, Schedule::Sooner, Some(&mut engine), &segments)?;
    engine.finish()
}
