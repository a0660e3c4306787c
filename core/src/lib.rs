//! The meaning of actionflow, without Postgres, network, clock or randomness.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod endpoint;
pub mod flow;
pub mod input;
pub mod message;
pub mod outcome;
pub mod payload;
pub mod retention;
pub mod retry;
pub mod signature;
pub mod wakeup;
