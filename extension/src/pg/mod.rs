//! The only unsafe code: what Postgres offers and pgrx does not wrap.

pub(crate) mod call;
pub(crate) mod clock;
pub(crate) mod identity;
pub(crate) mod invalidation;
pub(crate) mod jsonb;
mod jsonb_parts;
pub(crate) mod jsonb_reader;
pub(crate) mod jsonb_writer;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod ring;
pub(crate) mod row_trigger;
pub(crate) mod sequence;
pub(crate) mod settings;
pub(crate) mod shared;
pub(crate) mod snapshot;
pub(crate) mod stop;
pub(crate) mod transaction;
pub(crate) mod transition;
pub(crate) mod types;
mod varlena;
