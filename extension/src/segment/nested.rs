//! Statements inside statements.
//!
//! A row trigger of the application may change a customer that the statement around it has changed too. The inner
//! statement is reported first, with the later row, and the outer one last, with the earlier row. So customers that an
//! inner statement has touched are remembered, and for them the outer one looks at the row as it stands.
//!
//! An event may be emitted inside a statement that changes its customer, too, and whoever counts it sees the new row
//! already. For such a customer the statement does the same.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use crate::pg::transaction;

/// Beyond this, every customer of the outer statement is looked up.
const MAX_REMEMBERED: usize = 10_000;

#[derive(Default)]
struct Touched {
    transaction: u32,
    /// By customer: how deep the innermost statement was that touched it.
    depths: HashMap<String, i32>,
    /// How deep the deepest statement was that touched too many.
    everybody: i32,
    /// When the client's command began.
    statement: i64,
    /// Customers of whom an event was counted.
    counted: HashSet<String>,
}

thread_local! {
    static TOUCHED: RefCell<Touched> = RefCell::new(Touched::default());
}

/// Remembers a customer whom a statement of this depth has touched; 1 is a statement that no trigger runs.
pub(crate) fn remember(user_id: &str, depth: i32) {
    if depth <= 1 {
        return;
    }
    TOUCHED.with_borrow_mut(|touched| {
        touched.renew();
        if touched.depths.len() >= MAX_REMEMBERED {
            touched.everybody = touched.everybody.max(depth);
        } else {
            let known = touched.depths.entry(user_id.to_owned()).or_insert(depth);
            *known = depth.max(*known);
        }
    });
}

/// Remembers a customer of whom an event has been counted.
pub(crate) fn remember_counted(user_id: &str) {
    TOUCHED.with_borrow_mut(|touched| {
        touched.renew();
        if touched.counted.len() >= MAX_REMEMBERED {
            touched.everybody = i32::MAX;
        } else {
            touched.counted.insert(user_id.to_owned());
        }
    });
}

/// Whether a deeper statement of this transaction may have touched somebody.
pub(crate) fn is_possible(depth: i32) -> bool {
    TOUCHED.with_borrow_mut(|touched| {
        touched.renew();
        touched.everybody > depth
            || !touched.counted.is_empty()
            || touched.depths.values().any(|known| *known > depth)
    })
}

/// Whether a deeper statement has touched this customer.
pub(crate) fn has_touched(user_id: &str, depth: i32) -> bool {
    TOUCHED.with_borrow(|touched| {
        touched.everybody > depth
            || touched.counted.contains(user_id)
            || touched
                .depths
                .get(user_id)
                .is_some_and(|known| *known > depth)
    })
}

impl Touched {
    fn renew(&mut self) {
        // Not sooner: one command of the client may be several statements, and one of those may fire several triggers.
        let (transaction, statement) = (transaction::current(), transaction::statement_start());
        if (self.transaction, self.statement) != (transaction, statement) {
            *self = Self {
                transaction,
                statement,
                ..Self::default()
            };
        }
    }
}
