//! Statements that are planned once a session.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::{OwnedPreparedStatement, SpiClient};

use crate::error::Error;

/// A statement whose plan is kept for the session: planning it each time would cost more than running it.
pub(crate) fn prepare(
    client: &SpiClient<'_>,
    sql: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<OwnedPreparedStatement, Error> {
    let types: Vec<_> = arguments
        .iter()
        .map(|argument| pg_sys::PgOid::from(argument.oid()))
        .collect();
    Ok(client.prepare_mut(sql, &types)?.keep())
}
