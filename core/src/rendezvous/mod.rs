//! The ring in which a transaction that waits for an answer meets the worker that fetches it: the bookkeeping, over plain memory.
//!
//! Every method is one step under one lock; what lies in blocks is copied outside of the lock by whoever owns the slot in its
//! state. The states, and who owns the slot in each:
//!
//! ```text
//! Free -> Filling -> Posted -> Reading -> Taken -> Answering -> Answered -> Free
//!         caller     nobody    receiver   nobody   answerer     caller
//!                       \________________________/
//!                            receiver is lost -> Lost -> Free
//! ```
//!
//! The caller may give up at any moment. A slot that nobody else owns is free at once; a slot in `Reading` or `Answering` is
//! abandoned, and free when its owner's copying has ended. A ticket names a slot and its generation, so whoever holds one of an
//! earlier request changes nothing.

mod gate;
mod lists;
#[cfg(test)]
mod model;
mod ring;
mod types;

pub use gate::{Admission, Gate, Limits, Outcome, Refusal, State as GateState};
pub use ring::Ring;
pub use types::{Full, Header, Listener, Look, Receiver, Request, Slot, State, Taken, Ticket};
