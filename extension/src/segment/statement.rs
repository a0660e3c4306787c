//! What a statement on a watched table does to memberships, from the rows before and after it.

use std::rc::Rc;

use actionflow_core::segment::truth::Truth;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

use super::cache::Segments;
use super::crossings::{Crossings, Schedule};
use super::facts::{self, Facts, Needs};
use super::matcher::{Candidates, Events, Matcher, Row};
use super::nested;
use super::rows::Lock;
use super::state::{self, Wanted};
use crate::catalog::Watched;
use crate::changes::Change;
use crate::clock;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::Cause;
use crate::pg::memory::Scratch;
use crate::pg::transition::{Column, Operation, Rows, StoredRow, TriggerCall};
use crate::pg::{lock, snapshot, transaction};

const UNDECIDED_AT_ONCE: usize = 1_000;

/// The segments over one table while a statement on it is looked at.
pub(crate) struct Statement {
    segments: Rc<Segments>,
    matcher: Rc<Matcher>,
    /// For each of the matcher's columns, the table's.
    columns: Vec<Column>,
    id: Column,
    now: i64,
    /// How many triggers run, this one included.
    depth: i32,
    may_be_nested: bool,
    candidates: Candidates,
    scratch: Scratch,
    crossings: Crossings,
    /// Customers whose segments depend on their events.
    undecided: Vec<Undecided>,
    gone: Vec<String>,
    /// Customers whom a statement inside this one has changed too.
    overtaken: Vec<String>,
}

struct Undecided {
    user_id: String,
    segments: Vec<usize>,
    old: Option<StoredRow>,
    new: StoredRow,
}

/// A row of a transition table, seen through the matcher's columns.
struct TransitionRow<'a> {
    rows: &'a Rows,
    columns: &'a [Column],
}

impl Row for TransitionRow<'_> {
    fn value(&self, column: usize) -> Option<Datum> {
        self.rows.value(self.columns.get(column)?)
    }
}

impl Statement {
    /// `None` when no segment is over the table.
    pub(crate) fn new(
        segments: &Rc<Segments>,
        watched: &Watched,
        columns: &[Column],
        now: i64,
    ) -> Result<Option<Self>, Error> {
        let Some(matcher) = segments.over(watched.root) else {
            return Ok(None);
        };
        let find = |name: &String| {
            columns
                .iter()
                .find(|column| column.name == *name)
                .cloned()
                .ok_or_else(|| {
                    Error::Internal(format!("column \"{name}\" that a segment reads is missing"))
                })
        };
        let depth = transaction::trigger_depth();
        Ok(Some(Self {
            segments: Rc::clone(segments),
            matcher: Rc::clone(matcher),
            columns: matcher
                .columns
                .iter()
                .map(find)
                .collect::<Result<_, Error>>()?,
            id: find(&watched.id_column)?,
            now,
            depth,
            may_be_nested: nested::is_possible(depth),
            candidates: Candidates::default(),
            scratch: Scratch::new(),
            crossings: Crossings::default(),
            undecided: Vec::new(),
            gone: Vec::new(),
            overtaken: Vec::new(),
        }))
    }

    /// Looks at one row; writes in between when much has gathered.
    pub(crate) fn note(
        &mut self,
        change: &Change<'_>,
        call: &TriggerCall,
        engine: &mut Engine,
    ) -> Result<(), Error> {
        match change {
            Change::Updated(old, new) => self.updated(old, new),
            // MERGE on a partitioned table may show a row that it has inserted as the new version of one that it has
            // updated, so a changed id proves nothing there.
            Change::Created(row) | Change::Deleted(row)
                if call.operation() == Operation::Update && call.is_partitioned() =>
            {
                self.overtaken.extend(row.text(&self.id));
            }
            Change::Created(new) => self.created(new),
            Change::Deleted(old) => {
                if let Some(user_id) = self.relevant_id(old) {
                    self.gone.push(user_id);
                }
            }
        }
        if self.undecided.len() >= UNDECIDED_AT_ONCE {
            self.decide(call)?;
        }
        if self.crossings.is_full() {
            self.write(engine, Schedule::Sooner)?;
        }
        Ok(())
    }

    /// The customer of a row, unless a statement inside this one has changed it too.
    fn relevant_id(&mut self, row: &Rows) -> Option<String> {
        let user_id = row.text(&self.id)?;
        nested::remember(&user_id, self.depth);
        if self.may_be_nested && nested::has_touched(&user_id, self.depth) {
            self.overtaken.push(user_id);
            return None;
        }
        Some(user_id)
    }

    fn created(&mut self, new: &Rows) {
        let row = TransitionRow {
            rows: new,
            columns: &self.columns,
        };
        let (matcher, now, candidates) = (&*self.matcher, self.now, &mut self.candidates);
        let (holding, undecided) = self.scratch.run(|| {
            matcher.find_for_new(&row, now, candidates);
            let before = Truth::always(false);
            let mut holding: Vec<(usize, Truth, Truth)> = Vec::new();
            let mut undecided = Vec::new();
            for segment in &candidates.found {
                match matcher.truth_without_events(*segment, &row, now) {
                    Some(after) if before == after => {}
                    Some(after) => holding.push((*segment, before, after)),
                    None => undecided.push(*segment),
                }
            }
            (holding, undecided)
        });
        self.conclude(holding, undecided, None, new);
    }

    fn updated(&mut self, old: &Rows, new: &Rows) {
        let changed: Vec<bool> = self
            .columns
            .iter()
            .map(|column| !old.has_same(new, column))
            .collect();
        if !changed.contains(&true) {
            return;
        }
        let (before, after) = (
            TransitionRow {
                rows: old,
                columns: &self.columns,
            },
            TransitionRow {
                rows: new,
                columns: &self.columns,
            },
        );
        let (matcher, now, candidates) = (&*self.matcher, self.now, &mut self.candidates);
        let (different, undecided) = self.scratch.run(|| {
            matcher.find_for_changed(&before, &after, &|column| changed[column], now, candidates);
            let mut different: Vec<(usize, Truth, Truth)> = Vec::new();
            let mut undecided = Vec::new();
            for segment in &candidates.found {
                let truths = matcher
                    .truth_without_events(*segment, &before, now)
                    .zip(matcher.truth_without_events(*segment, &after, now));
                match truths {
                    Some((before, after)) if before == after => {}
                    Some((before, after)) => different.push((*segment, before, after)),
                    None => undecided.push(*segment),
                }
            }
            (different, undecided)
        });
        self.conclude(different, undecided, Some(old), new);
    }

    /// Notes what has become different for the customer of a row, and what depends on their events.
    fn conclude(
        &mut self,
        different: Vec<(usize, Truth, Truth)>,
        undecided: Vec<usize>,
        old: Option<&Rows>,
        new: &Rows,
    ) {
        let is_of_interest =
            !different.is_empty() || !undecided.is_empty() || self.depth > 1 || self.may_be_nested;
        if !is_of_interest {
            return;
        }
        let Some(user_id) = self.relevant_id(new) else {
            return;
        };
        for (segment, before, after) in different {
            state::note(
                &self.matcher,
                segment,
                &user_id,
                before,
                after,
                Cause::OUTSIDE,
                &mut self.crossings,
            );
        }
        if !undecided.is_empty() {
            self.undecided.push(Undecided {
                user_id,
                segments: undecided,
                old: old.map(Rows::copy),
                new: new.copy(),
            });
        }
    }

    /// Reads the events of the customers for whom they matter.
    fn decide(&mut self, call: &TriggerCall) -> Result<(), Error> {
        let undecided = std::mem::take(&mut self.undecided);
        if undecided.is_empty() {
            return Ok(());
        }
        // Updated ones too: this transaction may have inserted them itself.
        lock::announce_rows(undecided.iter().map(|item| item.user_id.as_str()));
        let now = clock::segments_now_after_waiting(self.now)?;
        let (matcher, crossings) = (&*self.matcher, &mut self.crossings);
        let columns = &self.columns;
        let mut needs = Needs::new();
        for segment in undecided.iter().flat_map(|item| &item.segments) {
            facts::add_needs(matcher, *segment, &mut needs);
        }
        let users: Vec<String> = undecided.iter().map(|item| item.user_id.clone()).collect();
        Spi::connect(|_| -> Result<(), Error> {
            let mut facts = Facts::read(&users, &needs, now)?;
            let (mut old, mut new) = (call.blank_rows(), call.blank_rows());
            for item in &undecided {
                let events = facts.take(&item.user_id);
                let known = |condition: &_| events.truth(condition, now);
                let truth = |segment: usize, rows: &Rows| {
                    let row = TransitionRow { rows, columns };
                    matcher.truth(segment, &row, now, &Events::Known(&known))
                };
                new.load(&item.new);
                if let Some(row) = &item.old {
                    old.load(row);
                }
                for segment in &item.segments {
                    let before = match item.old {
                        Some(_) => truth(*segment, &old),
                        None => Truth::always(false),
                    };
                    let after = truth(*segment, &new);
                    state::note(
                        matcher,
                        *segment,
                        &item.user_id,
                        before,
                        after,
                        Cause::OUTSIDE,
                        crossings,
                    );
                }
            }
            old.close();
            new.close();
            Ok(())
        })
    }

    fn write(&mut self, engine: &mut Engine, schedule: Schedule) -> Result<(), Error> {
        self.crossings
            .write(self.now, schedule, Some(engine), &self.segments)?;
        Ok(())
    }

    /// Decides and writes what is left.
    pub(crate) fn finish(
        mut self,
        call: &TriggerCall,
        watched: &Watched,
        engine: &mut Engine,
    ) -> Result<(), Error> {
        self.decide(call)?;
        let gone = std::mem::take(&mut self.gone);
        for (segment, user_id) in members(&self.matcher, &gone)? {
            self.crossings.exit(segment, &user_id, Cause::OUTSIDE);
        }
        self.write(engine, Schedule::Sooner)?;
        if !self.overtaken.is_empty() {
            let overtaken = std::mem::take(&mut self.overtaken);
            let matcher = Rc::clone(&self.matcher);
            let (now, crossings) = (self.now, &mut self.crossings);
            state::decide(
                watched,
                &matcher,
                &overtaken,
                &Wanted::All,
                Lock::NotNeeded,
                now,
                crossings,
            )?;
            self.write(engine, Schedule::Exactly)?;
        }
        Ok(())
    }
}

/// The memberships that customers have in the segments over one table.
pub(crate) fn members(matcher: &Matcher, user_ids: &[String]) -> Result<Vec<(i64, String)>, Error> {
    if user_ids.is_empty() {
        return Ok(Vec::new());
    }
    let segments: Vec<i64> = matcher
        .segments
        .iter()
        .map(|member| member.segment.id)
        .collect();
    Spi::connect(|_| {
        let found = snapshot::latest(
            "select m.segment_id, m.user_id from actionflow._segment_member as m
             where m.user_id = any($1) and m.segment_id = any($2)",
            &[user_ids.to_vec().into(), segments.into()],
        )?;
        let members = found
            .rows()
            .filter_map(|row| row.get::<i64>(1).zip(row.get::<String>(2)));
        Ok(members.collect())
    })
}
