//! The segments of the database as the backend holds them in memory: read when first needed, and again after a commit
//! that changed some, and then only those.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::bind::{BoundRule, Columns};
use super::matcher::{Matcher, Segment};
use crate::error::Error;
use crate::pg::invalidation::SEGMENTS;
use crate::pg::settings;
use crate::pg::snapshot::{self, FoundRow};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Segments>>> = const { RefCell::new(None) };
}

/// Every segment, by the watched table that it is over.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    by_relation: HashMap<u32, Rc<Matcher>>,
    by_id: HashMap<i64, Rc<Segment>>,
}

/// The segments as they stand for this transaction.
pub(crate) fn current() -> Result<Rc<Segments>, Error> {
    let known = CURRENT.with_borrow(Clone::clone);
    match known {
        Some(segments) if !SEGMENTS.is_stale() => Ok(segments),
        known => load(&known.unwrap_or_default()),
    }
}

fn load(known: &Segments) -> Result<Rc<Segments>, Error> {
    SEGMENTS.mark_fresh(anchor()?);
    match settings::fixed(|| Segments::read(known)) {
        Ok(segments) => {
            let segments = Rc::new(segments);
            CURRENT.set(Some(Rc::clone(&segments)));
            Ok(segments)
        }
        Err(error) => {
            SEGMENTS.mark_stale();
            Err(error)
        }
    }
}

fn anchor() -> Result<pg_sys::Oid, Error> {
    snapshot::value("select 'actionflow._segment'::pg_catalog.regclass", &[])?
        .ok_or_else(|| Error::Internal("the table of segments is missing".to_owned()))
}

/// Announces a change of the segments; the trigger function of their table.
#[pg_extern(
    sql = "create function actionflow._invalidate_segments() returns trigger
language c volatile parallel unsafe as 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn _invalidate_segments(_fcinfo: pg_sys::FunctionCallInfo) -> Result<i64, ErrorReport> {
    SEGMENTS.announce(anchor()?);
    Ok(0)
}

const READ: &str = "select s.id, s.name, s.revision, s.relation::oid, case when k.id is null then s.checked end
     from actionflow._segment as s
     left join unnest($1::bigint[], $2::bigint[]) as k (id, revision) on k.id = s.id and k.revision = s.revision
     order by s.id";

impl Segments {
    /// The segments over a watched table; `None` when there are none.
    pub(crate) fn over(&self, relation: u32) -> Option<&Rc<Matcher>> {
        self.by_relation.get(&relation)
    }

    /// Every watched table with its segments, in one order for all sessions.
    pub(crate) fn matchers(&self) -> Vec<(u32, &Rc<Matcher>)> {
        let mut matchers: Vec<_> = self
            .by_relation
            .iter()
            .map(|(relation, matcher)| (*relation, matcher))
            .collect();
        matchers.sort_unstable_by_key(|(relation, _)| *relation);
        matchers
    }

    pub(crate) fn segment(&self, id: i64) -> Option<&Rc<Segment>> {
        self.by_id.get(&id)
    }

    /// Whether some segment counts events of this name.
    pub(crate) fn counts(&self, event: &str) -> bool {
        self.by_relation
            .values()
            .any(|matcher| !matcher.counting(event).is_empty())
    }

    /// Reads what `known` does not have already.
    fn read(known: &Self) -> Result<Self, Error> {
        let (ids, revisions): (Vec<i64>, Vec<i64>) = known
            .by_id
            .values()
            .map(|segment| (segment.id, segment.revision))
            .unzip();
        // As they are committed now, or a change that was announced since this statement began would be missed for good.
        let rows = Spi::connect(|_| -> Result<Vec<StoredSegment>, Error> {
            let found = snapshot::latest(READ, &[ids.into(), revisions.into()])?;
            found.rows().map(|row| StoredSegment::read(&row)).collect()
        })?;
        let mut columns: HashMap<u32, Columns> = HashMap::new();
        let mut segments = Self::default();
        let mut lists: HashMap<u32, Vec<Rc<Segment>>> = HashMap::new();
        for row in rows {
            let segment = match (row.rule, known.by_id.get(&row.id)) {
                (None, Some(segment)) => Rc::clone(segment),
                (None, None) => return Err(Error::Internal("a segment has no rule".to_owned())),
                (Some(rule), _) => {
                    let columns = match columns.entry(row.relation) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => {
                            entry.insert(Columns::of(pg_sys::Oid::from(row.relation))?)
                        }
                    };
                    Rc::new(Segment {
                        id: row.id,
                        name: row.name,
                        revision: row.revision,
                        relation: row.relation,
                        rule: BoundRule::load(&rule.0, columns)?,
                    })
                }
            };
            lists
                .entry(segment.relation)
                .or_default()
                .push(Rc::clone(&segment));
            segments.by_id.insert(segment.id, segment);
        }
        for (relation, list) in lists {
            segments
                .by_relation
                .insert(relation, Rc::new(Matcher::new(&list)));
        }
        Ok(segments)
    }
}

struct StoredSegment {
    id: i64,
    name: String,
    revision: i64,
    relation: u32,
    rule: Option<JsonB>,
}

impl StoredSegment {
    fn read(row: &FoundRow) -> Result<Self, Error> {
        let missing = || Error::Internal("a segment is incomplete".to_owned());
        Ok(Self {
            id: row.get(1).ok_or_else(missing)?,
            name: row.get(2).ok_or_else(missing)?,
            revision: row.get(3).ok_or_else(missing)?,
            relation: row.get::<pg_sys::Oid>(4).ok_or_else(missing)?.to_u32(),
            rule: row.get(5),
        })
    }
}
