//! Inbound webhooks: requests that start flows.
//!
//! What a request means is in `actionflow_core::webhook`; here are the trigger that it belongs to (`trigger`), what becomes of it
//! (`receive`), and the two parts that SQL can ask alone: `signature` and `mapping`.

pub(crate) mod mapping;
pub(crate) mod receive;
pub(crate) mod remembered;
pub(crate) mod signature;
pub(crate) mod trigger;
