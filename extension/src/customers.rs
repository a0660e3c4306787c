//! The trigger function of watched tables: what a statement did to customers, as events.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use crate::catalog::{self, Catalog, Watched};
use crate::engine::{Engine, Event, Mode};
use crate::error::Error;
use crate::pg::identity;
use crate::pg::transition::{Column, Operation, Rows, StoredRow, TriggerCall};

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
    let wanted: &[&str] = match call.operation() {
        Operation::Insert => &[CREATED],
        Operation::Update => &[UPDATED, REVOKED, CREATED, DELETED],
        Operation::Delete | Operation::Truncate => &[DELETED],
    };
    if !wanted.iter().any(|name| catalog.wants(name)) {
        return Ok(());
    }
    let Some(watched) = catalog.watched(call.relation()) else {
        return Ok(());
    };
    let mut changes = Changes {
        engine: Engine::new()?,
        catalog: Rc::clone(&catalog),
        watched: Rc::clone(watched),
    };
    match call.operation() {
        Operation::Insert => changes.inserted(call)?,
        Operation::Update => changes.updated(call)?,
        Operation::Delete => changes.deleted(call, None)?,
        // A partitioned table's rows are its partitions', whose own triggers fire with it.
        Operation::Truncate if call.is_partitioned() => {}
        Operation::Truncate => changes.truncated(call)?,
    }
    changes.engine.finish()
}

struct Changes {
    engine: Engine,
    catalog: Rc<Catalog>,
    watched: Rc<Watched>,
}

/// What the rows of one UPDATE come to, by customer.
#[derive(Default)]
struct Differences {
    created: Vec<String>,
    deleted: Vec<String>,
    updated: Vec<(String, Vec<String>)>,
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

    fn inserted(&mut self, call: &TriggerCall) -> Result<(), Error> {
        let columns = call.columns();
        let id = self.id_column(&columns)?;
        let Some(mut rows) = call.new_rows() else {
            return Ok(());
        };
        while rows.next() {
            // A row without an id is nobody's.
            if let Some(user_id) = rows.text(id) {
                self.emit(CREATED, user_id, Map::new(), None)?;
            }
        }
        rows.close();
        Ok(())
    }

    fn updated(&mut self, call: &TriggerCall) -> Result<(), Error> {
        let columns = call.columns();
        let id = self.id_column(&columns)?;
        let (Some(old), Some(new)) = (call.old_rows(), call.new_rows()) else {
            return Ok(());
        };
        let differences = compare(old, new, &columns, id);
        if self.catalog.wants(DELETED) && !differences.deleted.is_empty() {
            self.deleted(call, Some(differences.deleted))?;
        }
        if self.catalog.wants(CREATED) {
            for user_id in differences.created {
                self.emit(CREATED, user_id, Map::new(), None)?;
            }
        }
        if self.catalog.wants(UPDATED) {
            for (user_id, attributes) in differences.updated {
                let mut properties = Map::new();
                properties.insert("changed_attributes".to_owned(), json!(attributes));
                self.emit(UPDATED, user_id, properties, None)?;
            }
        }
        if self.catalog.wants(REVOKED) && self.watched.revoked_when.is_some() {
            self.revoked(call)?;
        }
        Ok(())
    }

    /// Emits `user-deleted` for the old rows, or for those of them that have the given ids.
    fn deleted(&mut self, call: &TriggerCall, only: Option<Vec<String>>) -> Result<(), Error> {
        self.deleted_in(call, "actionflow_old", only)
    }

    fn truncated(&mut self, call: &TriggerCall) -> Result<(), Error> {
        let table = Spi::get_one_with_args::<String>(
            "select $1::oid::regclass::text",
            &[call.relation().into()],
        )?;
        self.deleted_in(call, &format!("only {}", table.unwrap_or_default()), None)
    }

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

/// Compares the rows before and after an UPDATE.
///
/// Both tables hold the rows in the same order unless ids changed or a partition's trigger dropped a row; then they are
/// matched by id: who is in both was updated, who is in one only was deleted or created.
fn compare(mut old: Rows, mut new: Rows, columns: &[Column], id: &Column) -> Differences {
    let mut differences = Differences::default();
    loop {
        match (old.next(), new.next()) {
            (true, true) if old.has_same(&new, id) => {
                if let Some(user_id) = new.text(id) {
                    differences.note_update(user_id, &old, &new, columns);
                }
            }
            (false, false) => break,
            _ => {
                differences = compare_by_id(&mut old, &mut new, columns, id);
                break;
            }
        }
    }
    old.close();
    new.close();
    differences
}

fn compare_by_id(old: &mut Rows, new: &mut Rows, columns: &[Column], id: &Column) -> Differences {
    let mut differences = Differences::default();
    let mut before: BTreeMap<String, StoredRow> = BTreeMap::new();
    old.rewind();
    while old.next() {
        if let Some(user_id) = old.text(id) {
            before.insert(user_id, old.copy());
        }
    }
    let mut seen = HashSet::new();
    new.rewind();
    while new.next() {
        let Some(user_id) = new.text(id) else {
            continue;
        };
        if let Some(row) = before.get(&user_id) {
            old.load(row);
            differences.note_update(user_id.clone(), old, new, columns);
        } else {
            differences.created.push(user_id.clone());
        }
        seen.insert(user_id);
    }
    differences
        .deleted
        .extend(before.into_keys().filter(|user_id| !seen.contains(user_id)));
    differences
}

impl Differences {
    fn note_update(&mut self, user_id: String, old: &Rows, new: &Rows, columns: &[Column]) {
        let changed: Vec<String> = columns
            .iter()
            .filter(|column| !old.has_same(new, column))
            .map(|column| column.name.clone())
            .collect();
        if !changed.is_empty() {
            self.updated.push((user_id, changed));
        }
    }
}
