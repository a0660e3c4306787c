//! One attempt at one delivery: prepare -> send -> classify -> record.

mod attempt;
mod client;
mod endpoint;
mod guard;
mod record;

pub(crate) use attempt::Attempts;
pub use client::{Client, Failure, Response};
pub(crate) use endpoint::{Directory, Target};
pub use guard::{Lookup, LookupFuture, SystemLookup};
pub(crate) use record::Recorder;
