//! Synchronous Enrich: a database session waits for what an endpoint answers.
//!
//! take -> call (cache, endpoint, attempt, perhaps one more) -> answer -> record.
//!
//! The three loops have a connection each: a take waits in the database, an answer must not wait for a take, and a slow disk
//! that holds up a record must hold up neither. They share a thread, which nothing else uses. Nothing here matters for longer than a caller waits: a request that is not
//! answered fails for its caller, whose flow says what that means.

mod answering;
mod attempt;
mod cache;
mod call;
mod endpoints;
mod enricher;
mod recording;
mod rendezvous;
mod taker;
mod thread;

pub use enricher::Enricher;
pub use rendezvous::{Entry, Head, Rendezvous, Replies, Taken};
pub(crate) use thread::on_own_thread;
