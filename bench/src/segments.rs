//! What do segments cost the writes that they follow, and how fast are they made, moved by the clock, and replayed?
//!
//! A ratio compares with the same work on an equal table in the same database that is not watched; both alternate
//! within a round. Only actionflow has segments, so there are no peers here.

mod changes;
mod copy;
mod create;
mod replay;
mod rules;
mod setup;
mod tick;
mod write;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::Bench;
use crate::report::Table;

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Updates and inserts that cross nothing, by number of segments.
    Write,
    /// COPY, with some rows that enter segments.
    Copy,
    /// New segments over many customers, then ticks over as many memberships.
    Create,
    /// A history of purchases, replayed as events.
    Replay,
}

/// What to measure, and how much of it.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Which measures of the segments part.
    #[arg(
        long = "segment-measures",
        env = "BENCH_SEGMENT_MEASURES",
        value_delimiter = ' ',
        default_value = "write copy create replay"
    )]
    pub measures: Vec<Measure>,
    /// Numbers of live segments to write under, ascending.
    #[arg(
        long = "segment-counts",
        env = "BENCH_SEGMENT_COUNTS",
        value_delimiter = ' ',
        default_value = "0 10 100 1000 10000"
    )]
    pub counts: Vec<u32>,
    /// Customers that new segments are made over.
    #[arg(
        long = "segment-customers",
        env = "BENCH_SEGMENT_CUSTOMERS",
        default_value_t = 1_000_000
    )]
    pub customers: u32,
    /// The purchases to replay.
    #[arg(
        long,
        env = "CDNOW",
        default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/CDNOW_master.txt")
    )]
    pub cdnow: PathBuf,
}

/// Runs one measure.
///
/// # Errors
/// When the server refuses, or segments are not what they should be.
pub async fn run(bench: &Bench, settings: &Settings, measure: Measure) -> Result<Vec<Table>> {
    match measure {
        Measure::Write => write::run(bench, &settings.counts).await,
        Measure::Copy => Ok(vec![copy::run(bench).await?]),
        Measure::Create => {
            let database = "bench_segments_create";
            setup::create_customers(bench, database, settings.customers.into()).await?;
            let tables = vec![
                create::run(bench, database).await?,
                tick::run(bench, database).await?,
            ];
            bench.server.drop(database).await?;
            Ok(tables)
        }
        Measure::Replay => Ok(vec![replay::run(bench, &settings.cdnow).await?]),
    }
}
