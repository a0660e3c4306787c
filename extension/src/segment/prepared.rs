//! Statements of this module, prepared once per backend.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys::{Oid, PgOid};
use pgrx::spi::{OwnedPreparedStatement, SpiClient};

use crate::error::Error;

thread_local! {
    static PREPARED: RefCell<HashMap<&'static str, Rc<OwnedPreparedStatement>>> = RefCell::new(HashMap::new());
}

/// The prepared form of a statement that may write.
pub(crate) fn statement(
    client: &SpiClient<'_>,
    sql: &'static str,
    types: &[Oid],
) -> Result<Rc<OwnedPreparedStatement>, Error> {
    if let Some(statement) = PREPARED.with_borrow(|prepared| prepared.get(sql).map(Rc::clone)) {
        return Ok(statement);
    }
    let types: Vec<PgOid> = types.iter().map(|oid| PgOid::from(*oid)).collect();
    let statement = Rc::new(client.prepare_mut(sql, &types)?.keep());
    PREPARED.with_borrow_mut(|prepared| prepared.insert(sql, Rc::clone(&statement)));
    Ok(statement)
}
