//! The worker without a database: its client against real receivers, its loops around a queue in memory, and the program.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod attempts;
mod client;
mod clock;
mod config;
mod enrich;
mod enrich_loops;
mod enrich_steps;
mod idle;
mod ingress;
mod metrics;
mod program;
mod proxies;
mod queue;
mod receiver;
mod rendezvous;
mod shutdown;
mod webhook_gate;
mod webhook_limits;
mod webhooks;
