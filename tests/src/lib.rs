//! The harness of the end-to-end tests.
//!
//! A test here sees actionflow as its users do: rows change in a database, and
//! requests arrive at an HTTP endpoint. Four nouns make that possible:
//!
//! - [`Cluster`]: a private Postgres server with actionflow preloaded. One is
//!   shared by all tests of a process; a test that stops or restarts the server
//!   starts its own. It ends with the process that started it, even a killed one.
//! - [`Database`]: one database per test, copied from a template in which the
//!   extension is installed, and dropped when the test ends.
//! - [`Receiver`]: an HTTP server on a port of the system's choice. It records
//!   every request, headers and raw body included, and answers from a script.
//! - [`Worker`]: a child process that runs the real worker binary. Its log is
//!   captured, and a warning or an error that a test did not announce fails it.
//!
//! Nothing here sleeps for a fixed time: what happens in another process is
//! waited for with [`eventually`], which prints the last state when it gives up.
//!
//! The environment variable `ACTIONFLOW_PG_BIN` names the folder with `postgres`,
//! `initdb`, `pg_ctl`, `psql` and `pg_dump`; `ACTIONFLOW_WORKER` the worker binary.
//! What is signed or verified by code that is not ours is asked of an [`Oracle`].
#![expect(
    clippy::panic,
    reason = "a harness reports to its test runner by panicking"
)]

mod cluster;
mod database;
mod eventually;
mod http;
mod oracle;
mod paths;
mod process_log;
mod receiver;
mod session;
mod worker;

pub use cluster::Cluster;
pub use database::Database;
pub use eventually::{PATIENCE, eventually};
pub use http::{Response, exchange, get, request_bytes};
pub use oracle::Oracle;
pub use paths::{pg_program, send_signal};
pub use receiver::{Answer, Receiver, Request};
pub use session::{Session, SqlError};
pub use worker::{Exit, Worker, WorkerBuilder};
