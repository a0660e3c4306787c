//! Customers' rows as they stand now, read by their ids.

use pgrx::pg_sys::Datum;
use pgrx::spi::quote_identifier;

use super::matcher::{Matcher, Row};
use crate::catalog::Watched;
use crate::error::Error;
use crate::pg::snapshot;

/// What happens to a row that another transaction is changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Rows are this transaction's own, or nobody can change them.
    NotNeeded,
    /// Wait for that transaction.
    Wait,
    /// Leave the row out.
    Skip,
}

/// The row of one customer.
pub(crate) struct CustomerRow {
    pub(crate) user_id: String,
    /// In the order of the matcher's columns.
    values: Vec<Option<Datum>>,
}

impl Row for CustomerRow {
    fn value(&self, column: usize) -> Option<Datum> {
        self.values.get(column).copied().flatten()
    }
}

/// Reads the rows of these customers, in the order of their ids; those who have none are missing. Values live as long as the
/// SPI connection.
pub(crate) fn read(
    watched: &Watched,
    matcher: &Matcher,
    user_ids: &[String],
    lock: Lock,
) -> Result<Vec<CustomerRow>, Error> {
    if user_ids.is_empty() {
        return Ok(Vec::new());
    }
    let columns: String = matcher
        .columns
        .iter()
        .map(|column| format!(", t.{}", quote_identifier(column)))
        .collect();
    let lock = match lock {
        Lock::NotNeeded => "",
        Lock::Wait => "for no key update of t",
        Lock::Skip => "for no key update of t skip locked",
    };
    let sql = format!(
        "select {}{columns} from {} as t where {} order by 1 {lock}",
        watched.id_sql, watched.name, watched.has_id_sql
    );
    let found = snapshot::allowed(&sql, &[user_ids.to_vec().into()])?;
    let columns = i32::try_from(matcher.columns.len()).unwrap_or(i32::MAX);
    Ok(found
        .rows()
        .map(|row| CustomerRow {
            user_id: row.get(1).unwrap_or_default(),
            values: (0..columns).map(|column| row.datum(column + 2)).collect(),
        })
        .collect())
}

/// Which of these customers have a row, whoever is changing it. To be called inside an SPI connection.
pub(crate) fn existing(watched: &Watched, user_ids: &[String]) -> Result<Vec<String>, Error> {
    if user_ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "select {} from {} as t where {}",
        watched.id_sql, watched.name, watched.has_id_sql
    );
    let found = snapshot::latest(&sql, &[user_ids.to_vec().into()])?;
    Ok(found
        .rows()
        .filter_map(|row| row.get::<String>(1))
        .collect())
}

/// A row that has come since a transaction that sees an old state began cannot be locked by it, so such a transaction has
/// to be tried again.
pub(crate) fn check_absent(watched: &Watched, missing: &[String]) -> Result<(), Error> {
    if snapshot::is_frozen() && !existing(watched, missing)?.is_empty() {
        return Err(Error::Serialization);
    }
    Ok(())
}
