//! Enrich: a transaction asks endpoints and goes on by what they answer.
//!
//! `ask` finds the flows that an event triggers and that begin with enrich actions, and performs those, before anything is
//! written: while it waits, the transaction holds nothing of actionflow's. `call` is one action: through the endpoint's gate
//! (`gates`) into the ring in shared memory, and asleep until the answer or the deadline. `serve` is the other side, which the
//! worker calls. `row` lets a BEFORE INSERT trigger ask.

pub(crate) mod ask;
mod call;
pub(crate) mod gates;
pub(crate) mod row;
pub(crate) mod serve;

use crate::error::Error;
use crate::pg::ring;

/// The largest message, request or answer, with what the worker needs beside it.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// An error where there is no ring.
fn check_ring() -> Result<(), Error> {
    if ring::is_there() {
        Ok(())
    } else {
        Err(Error::NotPreloaded)
    }
}
