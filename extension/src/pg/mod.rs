//! The only unsafe code: what Postgres offers and pgrx does not wrap.

pub(crate) mod clock;
pub(crate) mod identity;
pub(crate) mod invalidation;
pub(crate) mod sequence;
pub(crate) mod shared;
pub(crate) mod transaction;
pub(crate) mod transition;
