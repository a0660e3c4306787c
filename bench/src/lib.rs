//! Benchmarks of actionflow beside graphile-worker and pg-boss.
//!
//! A [`contestant::Contestant`] is one way to turn a new customer row into a signed POST. Each measured run takes a fresh
//! database, copied from the contestant's template, so that no run inherits another's bloat. Runs of different
//! contestants alternate, so that a slow minute of the machine falls on all of them; medians over the rounds are
//! reported with their range.
//!
//! [`drain`], [`insert`], [`latency`] and [`isolation`] are the scenarios that deliver; all of them use the one
//! [`receiver::Receiver`]. [`segments`] delivers nothing, and compares actionflow with tables that nobody watches.
//! [`enrich`] compares calls that wait for an endpoint's answer with the same calls made by the backend itself, and
//! [`webhooks`] requests that come in with what they are made of.
//! `bench/README.md` says how to read the figures.

pub mod contestant;
pub mod database;
pub mod drain;
pub mod enrich;
pub mod insert;
pub mod isolation;
pub mod latency;
pub mod pgbench;
pub mod process;
pub mod receiver;
pub mod report;
pub mod segments;
pub mod stats;
pub mod webhooks;

/// What every scenario needs: the server, the receiver and the programs to start.
pub struct Bench {
    pub server: database::Server,
    pub receiver: receiver::Receiver,
    pub programs: contestant::Programs,
    pub contestants: Vec<contestant::Contestant>,
    pub rounds: usize,
}
