//! The trigger function of watched tables: what a statement did to customers, as events.

use std::rc::Rc;

use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use crate::catalog::{self, Watched};
use crate::changes::{Change, each_change, each_row};
use crate::engine::Engine;
use crate::error::Error;
use crate::event::{Event, Mode};
use crate::pg::transition::{Column, Operation, TriggerCall};
use crate::pg::{identity, lock};
use crate::segment::build;
use crate::segment::cache::{self, Segments};
use crate::segment::statement::Statement;

const CREATED: &str = "user-created";
const UPDATED: &str = "user-updated";
const DELETED: &str = "user-deleted";
const REVOKED: &str = "user-revoked";

/// Turns what a statement did to a watched table into events.
///
/// Definer, because whoever writes to the table need not have any right on actionflow.
#[pg_extern(sql = "create function actionflow._customers_changed() returns trigger
language c volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
pub(crate) fn _customers_changed(fcinfo: pg_sys::FunctionCallInfo) -> Result<i64, ErrorReport> {
    let call = TriggerCall::new(fcinfo).ok_or_else(|| {
        Error::Internal("called in another way than by a statement's trigger".to_owned())
    })?;
    customers_changed(&call)?;
    Ok(0)
}

fn customers_changed(call: &TriggerCall) -> Result<(), Error> {
    let catalog = catalog::current()?;
    let Some(watched) = catalog.watched(call.relation()).map(Rc::clone) else {
        return Ok(());
    };
    let segments = cache::current()?;
    let wanted: &[&str] = match call.operation() {
        Operation::Insert => &[CREATED],
        Operation::Update => &[UPDATED, REVOKED, CREATED, DELETED],
        Operation::Delete | Operation::Truncate => &[DELETED],
    };
    let is_wanted = |name: &str| catalog.wants(name) || segments.counts(name);
    let wants_events = wanted.iter().any(|name| is_wanted(name));
    let is_of_use = wants_events || segments.over(watched.root).is_some();
    if !is_of_use && !lock::is_build_announced() {
        return Ok(());
    }
    let mut changes = Changes {
        wants_created: is_wanted(CREATED),
        wants_updated: is_wanted(UPDATED),
        wants_deleted: is_wanted(DELETED),
        engine: Engine::new()?,
        watched,
        deleted: Vec::new(),
        touched: Vec::new(),
    };
    match call.operation() {
        // A partitioned table's rows are its partitions', whose own triggers fire with it.
        Operation::Truncate if call.is_partitioned() => {}
        Operation::Truncate => changes.truncated(call)?,
        _ => changes.changed(call, &segments)?,
    }
    changes.finish()
}

struct Changes {
    engine: Engine,
    watched: Rc<Watched>,
    wants_created: bool,
    wants_updated: bool,
    wants_deleted: bool,
    /// Customers whose rows have gone.
    deleted: Vec<String>,
    /// Customers whose rows have changed in any way, when a segment is being built.
    touched: Vec<String>,
}

impl Changes {
    fn emit(
        &mut self,
        name: &str,
        user_id: String,
        properties: Map<String, Value>,
        profile: Option<Value>,
    ) -> Result<(), Error> {
        let id = self.engine.next_event_id();
        let occurred_at = self.engine.stamp.now;
        self.engine.emit(Event {
            id,
            name: name.to_owned(),
            user_id,
            properties,
            mode: Mode::Live,
            origin: None,
            depth: 0,
            occurred_at,
            profile,
            crossing: None,
        })
    }

    fn id_column<'a>(&self, columns: &'a [Column]) -> Result<&'a Column, Error> {
        columns
            .iter()
            .find(|column| column.name == self.watched.id_column)
            .ok_or_else(|| {
                Error::Internal(format!(
                    "column \"{}\" of a watched table is missing",
                    self.watched.id_column
                ))
            })
    }

    /// Goes through the rows once, for segments and for events.
    fn changed(&mut self, call: &TriggerCall, segments: &Rc<Segments>) -> Result<(), Error> {
        let columns = call.columns();
        let id = self.id_column(&columns)?.clone();
        let watched = Rc::clone(&self.watched);
        let now = self.engine.segments_now;
        let mut statement = Statement::new(segments, &watched, &columns, now)?;
        let mut visit = |change: Change<'_>| -> Result<(), Error> {
            if let Some(statement) = &mut statement {
                statement.note(&change, call, &mut self.engine)?;
            }
            self.note(&change, call, &columns, &id)
        };
        match (call.old_rows(), call.new_rows()) {
            (Some(old), Some(new)) => each_change(old, new, &id, visit)?,
            (Some(old), None) => each_row(old, |row| visit(Change::Deleted(row)))?,
            (None, Some(new)) => each_row(new, |row| visit(Change::Created(row)))?,
            (None, None) => {}
        }
        if let Some(statement) = statement {
            statement.finish(call, &watched, &mut self.engine)?;
        }
        self.emit_deleted(call)?;
        if call.operation() == Operation::Update && self.engine.wants(REVOKED) {
            self.revoked(call)?;
        }
        Ok(())
    }

    /// Emits what has become of one customer.
    fn note(
        &mut self,
        change: &Change<'_>,
        call: &TriggerCall,
        columns: &[Column],
        id: &Column,
    ) -> Result<(), Error> {
        let is_of_interest = self.engine.is_building
            || match change {
                Change::Created(_) => self.wants_created,
                Change::Updated(..) => self.wants_updated,
                Change::Deleted(_) => self.wants_deleted,
            };
        // A row without an id is nobody's.
        let Some(user_id) = is_of_interest.then(|| change.user_id(id)).flatten() else {
            return Ok(());
        };
        if self.engine.is_building {
            self.touched.push(user_id.clone());
        }
        if !matches!(change, Change::Deleted(_)) {
            self.emit_deleted(call)?;
        }
        match change {
            Change::Created(_) if self.wants_created => {
                self.emit(CREATED, user_id, Map::new(), None)
            }
            Change::Deleted(_) if self.wants_deleted => {
                self.deleted.push(user_id);
                Ok(())
            }
            Change::Updated(old, new) if self.wants_updated => {
                let changed: Vec<&str> = columns
                    .iter()
                    .filter(|column| !old.has_same(new, column))
                    .map(|column| column.name.as_str())
                    .collect();
                if changed.is_empty() {
                    return Ok(());
                }
                let mut properties = Map::new();
                properties.insert("changed_attributes".to_owned(), json!(changed));
                self.emit(UPDATED, user_id, properties, None)
            }
            _ => Ok(()),
        }
    }

    fn emit_deleted(&mut self, call: &TriggerCall) -> Result<(), Error> {
        if self.deleted.is_empty() {
            return Ok(());
        }
        let deleted = std::mem::take(&mut self.deleted);
        self.deleted_in(call, "actionflow_old", Some(deleted))
    }

    fn finish(self) -> Result<(), Error> {
        if !self.touched.is_empty() {
            build::note_touched(&self.touched)?;
        }
        self.engine.finish()
    }

    fn truncated(&mut self, call: &TriggerCall) -> Result<(), Error> {
        let table = Spi::get_one_with_args::<String>(
            "select $1::oid::regclass::text",
            &[call.relation().into()],
        )?
        .unwrap_or_default();
        build::truncated(&mut self.engine, &self.watched, &table)?;
        if self.wants_deleted {
            self.deleted_in(call, &format!("only {table}"), None)?;
        }
        Ok(())
    }

    /// Emits `user-deleted` for the rows of a table, or for those of them that have the given ids.
    fn deleted_in(
        &mut self,
        call: &TriggerCall,
        source: &str,
        only: Option<Vec<String>>,
    ) -> Result<(), Error> {
        let (id, profile) = (&self.watched.id_sql, &self.watched.profile_sql);
        let query = format!(
            "select d.id, d.profile from (select {id} as id, {profile} as profile from {source} as t) as d
             where d.id is not null and ($1 is null or d.id = any($1))"
        );
        let deleted = Spi::connect(|client| -> Result<Vec<(String, Value)>, Error> {
            call.register_with_spi();
            let table = client.select(query.as_str(), None, &[only.into()])?;
            let mut deleted = Vec::with_capacity(table.len());
            for row in table {
                if let (Some(id), Some(profile)) = (row.get::<String>(1)?, row.get::<JsonB>(2)?) {
                    deleted.push((id, profile.0));
                }
            }
            Ok(deleted)
        })?;
        for (user_id, profile) in deleted {
            self.emit(DELETED, user_id, Map::new(), Some(profile))?;
        }
        Ok(())
    }

    /// Emits `user-revoked` for customers for whom the table's condition has turned true.
    fn revoked(&mut self, call: &TriggerCall) -> Result<(), Error> {
        let Some(condition) = &self.watched.revoked_when else {
            return Ok(());
        };
        let id = &self.watched.id_sql;
        let side = |table: &str| {
            format!(
                "select {id} as id, (select ({condition}) is true from (select t.*) as row_of_customer) as is_revoked from {table} as t"
            )
        };
        let query = format!(
            "select n.id from ({}) as n join ({}) as o on o.id = n.id where n.is_revoked and not o.is_revoked order by n.id",
            side("actionflow_new"),
            side("actionflow_old")
        );
        // The condition is the table owner's, so it runs with the owner's rights and not with actionflow's.
        let revoked = identity::run_as(call.owner(), || {
            Spi::connect(|client| -> Result<Vec<String>, Error> {
                call.register_with_spi();
                let mut revoked = Vec::new();
                for row in client.select(query.as_str(), None, &[])? {
                    revoked.extend(row.get::<String>(1)?);
                }
                Ok(revoked)
            })
        })?;
        for user_id in revoked {
            self.emit(REVOKED, user_id, Map::new(), None)?;
        }
        Ok(())
    }
}
