//! The ways to turn a new customer into a signed POST, and two tables that do not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use tokio::process::Command;

use crate::Bench;
use crate::process::Worker;

/// The signing key of every contestant; it protects nothing.
const SECRET: &str = "whsec_YWN0aW9uZmxvdyBiZW5jaG1hcmsgc2lnbmluZyBrZXk=";

/// A free port of the loopback interface.
const ANY_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// One table of customers, and what happens when a row is inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Contestant {
    /// Nothing: the base of every ratio.
    Plain,
    /// Watched by actionflow, but no flow listens.
    Watched,
    /// One flow with one notify.
    Actionflow,
    /// A trigger that calls `add_job`.
    GraphileWorker,
    /// A trigger that inserts into the job table.
    PgBoss,
}

/// Where the programs are that the driver starts.
#[derive(Debug, clap::Args)]
pub struct Programs {
    /// pgbench; it finds the server by the `PG*` environment variables.
    #[arg(long)]
    pub pgbench: PathBuf,
    /// The `actionflow-worker` program, a release build.
    #[arg(long)]
    pub worker: PathBuf,
    /// Folder with the peers' scripts and their `node_modules`.
    #[arg(long)]
    pub peers: PathBuf,
    /// Folder for the workers' logs.
    #[arg(long)]
    pub logs: PathBuf,
}

impl Contestant {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain table",
            Self::Watched => "actionflow, watched, no flow",
            Self::Actionflow => "actionflow",
            Self::GraphileWorker => "graphile-worker",
            Self::PgBoss => "pg-boss",
        }
    }

    /// Whether its inserts end in requests.
    pub fn delivers(self) -> bool {
        !matches!(self, Self::Plain | Self::Watched)
    }

    fn slug(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Watched => "watched",
            Self::Actionflow => "actionflow",
            Self::GraphileWorker => "graphile",
            Self::PgBoss => "pgboss",
        }
    }

    /// The database that each run starts from a copy of.
    pub fn template(self) -> String {
        format!("bench_template_{}", self.slug())
    }

    /// A query for the number of deliveries that the queue does not yet know to be done.
    pub fn remaining_query(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Watched => None,
            Self::Actionflow => Some(
                "select coalesce(sum(pending + running), 0)::bigint from actionflow.queue_stats()",
            ),
            Self::GraphileWorker => {
                Some("select count(*)::bigint from graphile_worker._private_jobs")
            }
            Self::PgBoss => Some(
                "select count(*)::bigint from pgboss.job
                 where name = 'deliver' and state <> 'completed'",
            ),
        }
    }

    /// A query for the number of attempts on record, where a history is kept.
    pub fn history_query(self) -> Option<&'static str> {
        match self {
            Self::Actionflow => Some("select count(*)::bigint from actionflow.delivery_attempts"),
            Self::PgBoss => {
                Some("select count(*)::bigint from pgboss.job where state = 'completed'")
            }
            _ => None,
        }
    }

    /// Makes the database that each run starts from a copy of.
    ///
    /// # Errors
    /// When the server or the contestant's own installer refuses.
    pub async fn prepare(self, bench: &Bench) -> Result<()> {
        let template = self.template();
        bench.server.create(&template, None).await?;
        let client = bench.server.connect(&template).await?;
        client
            .batch_execute(include_str!("../sql/customers.sql"))
            .await?;
        if let Some(script) = self.script() {
            client
                .batch_execute(include_str!("../sql/payload.sql"))
                .await?;
            let status = self
                .node(bench, script, "setup", &template)
                .status()
                .await
                .context("run node")?;
            ensure!(status.success(), "{script} setup ended with {status}");
        }
        let url = bench.receiver.url();
        let sql = match self {
            Self::Plain => String::new(),
            Self::Watched => include_str!("../sql/watched.sql").to_owned(),
            Self::Actionflow => include_str!("../sql/actionflow.sql")
                .replace(":url", &format!("'{url}'"))
                .replace(":secret", &format!("'{SECRET}'::text")),
            Self::GraphileWorker => include_str!("../sql/graphile.sql").to_owned(),
            Self::PgBoss => include_str!("../sql/pgboss.sql").to_owned(),
        };
        client
            .batch_execute(&sql)
            .await
            .with_context(|| format!("set up {}", self.name()))
    }

    /// Makes a fresh database and returns its name.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn fresh_database(self, bench: &Bench) -> Result<String> {
        let database = format!("bench_{}", self.slug());
        bench
            .server
            .create(&database, Some(&self.template()))
            .await?;
        Ok(database)
    }

    /// Starts its worker, if it has one.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_worker(self, bench: &Bench, database: &str) -> Result<Worker> {
        let command = match self.script() {
            Some(script) => self.node(bench, script, "work", database),
            None => actionflow_worker(bench, database, ANY_ADDRESS),
        };
        Worker::start(command, &self.log(bench))
    }

    fn log(self, bench: &Bench) -> PathBuf {
        bench.programs.logs.join(format!("{}.log", self.slug()))
    }

    fn script(self) -> Option<&'static str> {
        match self {
            Self::GraphileWorker => Some("graphile.mjs"),
            Self::PgBoss => Some("pgboss.mjs"),
            _ => None,
        }
    }

    fn node(self, bench: &Bench, script: &str, task: &str, database: &str) -> Command {
        let mut command = Command::new("node");
        command
            .current_dir(&bench.programs.peers)
            .args([script, task])
            .env("NODE_ENV", "production")
            .env("DATABASE_URL", bench.server.url(database))
            .env("BENCH_RECEIVER", bench.receiver.url())
            .env("BENCH_SECRET", SECRET);
        command
    }
}

/// Starts actionflow's worker with its HTTP server at this address.
///
/// # Errors
/// When the program cannot be started.
pub fn start_actionflow_at(bench: &Bench, database: &str, address: SocketAddr) -> Result<Worker> {
    let command = actionflow_worker(bench, database, address);
    Worker::start(command, &Contestant::Actionflow.log(bench))
}

fn actionflow_worker(bench: &Bench, database: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(&bench.programs.worker);
    command
        .arg("--listen")
        .arg(address.to_string())
        .arg("--allow-private-addresses")
        .env("DATABASE_URL", bench.server.url(database));
    command
}
