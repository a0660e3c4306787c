//! What a statement did to the rows of a table, customer by customer.

use std::collections::BTreeMap;

use crate::pg::transition::{Column, Rows, StoredRow};

/// What became of one customer.
pub(crate) enum Change<'a> {
    Created(&'a Rows),
    Updated(&'a Rows, &'a Rows),
    Deleted(&'a Rows),
}

impl Change<'_> {
    /// The customer's id; `None` for a row that is nobody's.
    pub(crate) fn user_id(&self, id: &Column) -> Option<String> {
        match self {
            Self::Created(row) | Self::Deleted(row) | Self::Updated(_, row) => row.text(id),
        }
    }
}

/// Visits every row of one transition table.
pub(crate) fn each_row<E>(
    mut rows: Rows,
    mut visit: impl FnMut(&Rows) -> Result<(), E>,
) -> Result<(), E> {
    while rows.next() {
        visit(&rows)?;
    }
    rows.close();
    Ok(())
}

/// Visits the rows before and after an UPDATE.
///
/// Both tables hold the rows in the same order unless ids changed or a partition's trigger dropped a row; from there on
/// they are matched by id: who is in both was updated, who is in one only was deleted or created.
pub(crate) fn each_change<E>(
    mut old: Rows,
    mut new: Rows,
    id: &Column,
    mut visit: impl FnMut(Change<'_>) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        match (old.next(), new.next()) {
            (true, true) if old.has_same(&new, id) => visit(Change::Updated(&old, &new))?,
            (false, false) => break,
            (has_old, has_new) => {
                each_change_by_id(&mut old, &mut new, (has_old, has_new), id, &mut visit)?;
                break;
            }
        }
    }
    old.close();
    new.close();
    Ok(())
}

/// Whoever has gone comes first: an id that moved from one customer to another was free in between.
fn each_change_by_id<E>(
    old: &mut Rows,
    new: &mut Rows,
    (mut has_old, mut has_new): (bool, bool),
    id: &Column,
    visit: &mut impl FnMut(Change<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut before: BTreeMap<String, StoredRow> = BTreeMap::new();
    while has_old {
        if let Some(user_id) = old.text(id) {
            before.insert(user_id, old.copy());
        }
        has_old = old.next();
    }
    let mut after: Vec<(StoredRow, Option<StoredRow>)> = Vec::new();
    while has_new {
        if let Some(user_id) = new.text(id) {
            after.push((new.copy(), before.remove(&user_id)));
        }
        has_new = new.next();
    }
    for row in before.into_values() {
        old.load(&row);
        visit(Change::Deleted(old))?;
    }
    for (row, row_before) in after {
        new.load(&row);
        match row_before {
            Some(row_before) => {
                old.load(&row_before);
                visit(Change::Updated(old, new))?;
            }
            None => visit(Change::Created(new))?,
        }
    }
    Ok(())
}
