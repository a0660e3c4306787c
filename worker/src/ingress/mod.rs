//! The HTTP server: inbound webhooks, and for operators whether the worker lives, whether it works, and its metrics.
//!
//! `server` accepts connections and bounds what each may cost in time and memory. `routes` says what is served. A webhook
//! (`webhook`) is read within its limits (`body`), waits at the `gate` until few enough others are in the database, and is
//! answered with what the database says of it (`inbound`); `proxies`, with `forwarded`, says which address it came from. Nothing about
//! a webhook is decided here: `actionflow.receive_webhook` does that.

mod answer;
mod body;
mod failures;
mod forwarded;
mod gate;
mod inbound;
mod proxies;
mod routes;
mod server;
mod stalled;
mod stats;
mod webhook;

pub use inbound::{Answer, Failure, FailureKind, Inbound, Webhooks};
pub use proxies::TrustedProxies;
pub use server::{Ingress, Limits, listen};
