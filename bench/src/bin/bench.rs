//! Runs the scenarios against a server that is already there, and prints their tables; `bench/run` calls it.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use actionflow_bench::contestant::{Contestant, Programs};
use actionflow_bench::database::Server;
use actionflow_bench::receiver::Receiver;
use actionflow_bench::report::Table;
use actionflow_bench::{Bench, drain, enrich, insert, isolation, latency, segments, webhooks};
use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    Drain,
    Insert,
    Latency,
    Isolation,
    Memory,
    Segments,
    Enrich,
    Webhooks,
}

#[derive(Parser)]
struct Arguments {
    /// Superuser's connection URL without a database.
    #[arg(long, env = "BENCH_SERVER", hide_env_values = true)]
    server: String,
    #[command(flatten)]
    programs: Programs,
    #[arg(
        long,
        env = "BENCH_PARTS",
        value_delimiter = ' ',
        default_value = "drain insert latency isolation memory segments enrich webhooks"
    )]
    parts: Vec<Part>,
    #[arg(
        long,
        env = "BENCH_CONTESTANTS",
        value_delimiter = ' ',
        default_value = "plain watched actionflow graphile-worker pg-boss"
    )]
    contestants: Vec<Contestant>,
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 3)]
    rounds: usize,
    /// Backlog of the drain.
    #[arg(long, env = "BENCH_DELIVERIES", default_value_t = 20_000)]
    deliveries: u32,
    /// Length of one pgbench run.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 5)]
    seconds: u32,
    /// Clients of the pgbench runs; the last number is used beside the running worker, too.
    #[arg(
        long,
        env = "BENCH_CLIENTS",
        value_delimiter = ' ',
        default_value = "1 8 32"
    )]
    clients: Vec<u32>,
    /// Inserts of the latency part, and of each measurement of the isolation part.
    #[arg(long, env = "BENCH_LATENCY_INSERTS", default_value_t = 500)]
    latency_inserts: u32,
    /// Backlog of the memory part.
    #[arg(long, env = "BENCH_MEMORY_DELIVERIES", default_value_t = 100_000)]
    memory_deliveries: u32,
    #[command(flatten)]
    segments: segments::Settings,
    #[command(flatten)]
    enrich: enrich::Settings,
    #[command(flatten)]
    webhooks: webhooks::Settings,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let bench = Bench {
        server: Server::new(&arguments.server),
        receiver: Receiver::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?,
        programs: arguments.programs,
        contestants: arguments.contestants,
        rounds: arguments.rounds,
    };
    for contestant in &bench.contestants {
        contestant.prepare(&bench).await?;
    }
    for part in arguments.parts {
        let start = Instant::now();
        match part {
            Part::Drain => print(&drain::run(&bench, arguments.deliveries, bench.rounds).await?)?,
            Part::Insert => {
                let load = insert::Load {
                    clients_beside_worker: arguments.clients.last().copied().unwrap_or(1),
                    clients: arguments.clients.clone(),
                    seconds: arguments.seconds,
                };
                for table in insert::run(&bench, &load).await? {
                    print(&table)?;
                }
            }
            Part::Latency => print(&latency::run(&bench, arguments.latency_inserts).await?)?,
            Part::Isolation => match isolation::run(&bench, arguments.latency_inserts).await? {
                Some(table) => print(&table)?,
                None => eprintln!("isolation is measured with actionflow only"),
            },
            // Once: peak memory hardly varies, and the backlog is large.
            Part::Memory => print(&drain::run(&bench, arguments.memory_deliveries, 1).await?)?,
            Part::Segments => measure_segments(&bench, &arguments.segments).await?,
            Part::Enrich => {
                for table in enrich::run(&bench, &arguments.enrich).await? {
                    print(&table)?;
                }
            }
            Part::Webhooks => measure_webhooks(&bench, &arguments.webhooks).await?,
        }
        eprintln!("{part:?} took {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

async fn measure_segments(bench: &Bench, settings: &segments::Settings) -> Result<()> {
    if !bench.contestants.contains(&Contestant::Actionflow) {
        eprintln!("segments are measured with actionflow only");
        return Ok(());
    }
    for &measure in &settings.measures {
        let start = Instant::now();
        let tables = segments::run(bench, settings, measure).await;
        for table in tables.with_context(|| format!("measure {measure:?} of segments"))? {
            print(&table)?;
        }
        eprintln!("{measure:?} took {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

async fn measure_webhooks(bench: &Bench, settings: &webhooks::Settings) -> Result<()> {
    if !bench.contestants.contains(&Contestant::Actionflow) {
        eprintln!("webhooks are measured with actionflow only");
        return Ok(());
    }
    for &measure in &settings.measures {
        let tables = webhooks::run(bench, settings, measure).await;
        for table in tables.with_context(|| format!("measure {measure:?} of webhooks"))? {
            print(&table)?;
        }
    }
    Ok(())
}

fn print(table: &Table) -> Result<()> {
    writeln!(std::io::stdout(), "{}", table.to_markdown())?;
    Ok(())
}
