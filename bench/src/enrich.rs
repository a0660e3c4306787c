//! What does a session wait for an endpoint's answer, beside the same call made by the backend itself with libcurl?
//!
//! All calls are made by the same sessions' driver in one database of one server, and answered by the one receiver.
//! They alternate within a round.

mod calls;
mod compare;
mod overhead;
mod setup;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::contestant::Contestant;
use crate::report::Table;

/// What to measure, and for how long.
#[derive(Debug, clap::Args)]
#[group(id = "enrich")]
pub struct Settings {
    /// Numbers of sessions that call at the same time.
    #[arg(
        long = "enrich-sessions",
        env = "BENCH_ENRICH_SESSIONS",
        value_delimiter = ' ',
        default_value = "1 8 32 64"
    )]
    pub sessions: Vec<u32>,
    /// Length of one run.
    #[arg(
        id = "enrich_seconds",
        long = "enrich-seconds",
        env = "BENCH_ENRICH_SECONDS",
        default_value_t = 2
    )]
    pub seconds: u32,
    /// The built module of `peers/libcurl`.
    #[arg(long = "libcurl")]
    pub module: Option<PathBuf>,
}

impl Settings {
    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// Compares the calls; the time outside of the HTTP call is known for actionflow only, and measured when that is among
/// the contestants.
///
/// # Errors
/// When the module is missing, the server refuses, or a call is not answered by the endpoint.
pub async fn run(bench: &Bench, settings: &Settings) -> Result<Vec<Table>> {
    ensure!(settings.seconds > 0, "a run needs a second at least");
    let module = settings.module.as_deref();
    let module = module.context("the enrich part needs --libcurl")?;
    let mut stage = setup::open(bench, module).await?;
    let mut tables = vec![compare::run(bench, &mut stage, settings).await?];
    if bench.contestants.contains(&Contestant::Actionflow) {
        tables.push(overhead::run(bench, &mut stage, settings.length()).await?);
    }
    setup::close(bench, stage).await?;
    Ok(tables)
}
