//! One attempt at one delivery: prepare -> send -> classify -> record. What synchronous Enrich needs of it as well (client,
//! endpoints, signed requests, reading of answers) is shared.

mod answer;
mod attempt;
mod client;
mod directory;
mod endpoint;
mod guard;
mod record;
mod request;

pub(crate) use answer::{Unusable, usable};
pub(crate) use attempt::{Attempts, panic_message};
pub use client::{Client, Failure, Limit, Response};
pub(crate) use directory::{Directory, MAX_ENDPOINTS, Target, Targets};
pub(crate) use endpoint::Endpoint;
pub use guard::{Lookup, LookupFuture, SystemLookup};
pub(crate) use record::Recorder;
pub(crate) use request::{prepare, unix_seconds};
