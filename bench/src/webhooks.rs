//! What do inbound webhooks cost: their signatures, their mappings, and the whole way from a request to its 202?
//!
//! Signatures are compared with the same check written with pgcrypto and with the speed of OpenSSL, mappings with the same
//! made by operators of jsonb, requests with what HTTP and the database take alone. Peers have none of it.

mod http;
mod ingress;
mod mappings;
mod payloads;
mod signatures;
mod wrk;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::Bench;
use crate::database::Server;
use crate::report::Table;

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Queries that verify signatures.
    Signatures,
    /// Queries that map payloads.
    Mappings,
    /// Signed requests over HTTP.
    Requests,
}

/// What to measure, and how much of it.
#[derive(Debug, clap::Args)]
#[group(id = "webhooks")]
pub struct Settings {
    /// Which measures of the webhooks part.
    #[arg(
        id = "webhook_measures",
        long = "webhook-measures",
        env = "BENCH_WEBHOOK_MEASURES",
        value_delimiter = ' ',
        default_value = "signatures mappings requests"
    )]
    pub measures: Vec<Measure>,
    /// Rows of the queries that verify and map.
    #[arg(
        long = "webhook-rows",
        env = "BENCH_WEBHOOK_ROWS",
        default_value_t = 100_000
    )]
    pub rows: u32,
    /// Length of one run of requests.
    #[arg(
        id = "webhook_seconds",
        long = "webhook-seconds",
        env = "BENCH_WEBHOOK_SECONDS",
        default_value_t = 5
    )]
    pub seconds: u32,
    /// HTTP connections that send requests, one after the other each.
    #[arg(
        long = "webhook-connections",
        env = "BENCH_WEBHOOK_CONNECTIONS",
        default_value_t = 32
    )]
    pub connections: u32,
    /// Superuser's connection URL, without a database, of a server that has pgcrypto beside actionflow.
    #[arg(
        long = "pgcrypto-server",
        env = "BENCH_PGCRYPTO_SERVER",
        hide_env_values = true
    )]
    pub pgcrypto_server: Option<String>,
    /// What wrk runs.
    #[arg(
        long,
        default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/wrk.lua")
    )]
    pub wrk_script: PathBuf,
}

/// Runs one measure.
///
/// # Errors
/// When a server refuses, a request is not answered as it should be, or a program is missing.
pub async fn run(bench: &Bench, settings: &Settings, measure: Measure) -> Result<Vec<Table>> {
    ensure!(settings.rows > 0, "a query needs a row at least");
    ensure!(settings.seconds > 0, "a run needs a second at least");
    let server = settings.pgcrypto_server.as_deref();
    let server = Server::new(server.context("the webhooks part needs --pgcrypto-server")?);
    match measure {
        Measure::Signatures => signatures::run(bench, &server, settings.rows).await,
        Measure::Mappings => Ok(vec![mappings::run(bench, settings.rows).await?]),
        Measure::Requests => Ok(vec![ingress::run(bench, &server, settings).await?]),
    }
}
