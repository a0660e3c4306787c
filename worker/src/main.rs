//! The program `actionflow-worker`: settings, logging, signals, exit codes.
//!
//! It exits with 0 after a signal, with 1 when it failed, and with 2 when a person has to change something: the settings, or the
//! extension in the database.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use actionflow_worker::config::{Args, Config};
use actionflow_worker::db::DbError;
use actionflow_worker::{run, telemetry};
use anyhow::Context as _;
use clap::Parser as _;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// A delivery makes some dozens of short-lived allocations on whichever thread has time; with the system's allocator they
/// took a sixth of the worker's processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parsing answers and signing scales over few cores; more threads only take turns.
const MAX_THREADS: usize = 4;

fn main() -> ExitCode {
    let config = match Config::parse(&Args::parse()) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("actionflow-worker: {problems}");
            return ExitCode::from(2);
        }
    };
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("failed to {error:#}");
            let needs_a_person = error
                .downcast_ref::<DbError>()
                .is_some_and(DbError::is_final);
            ExitCode::from(if needs_a_person { 2 } else { 1 })
        }
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    telemetry::start_logging(&config.log)?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: the worker finishes what is under way"),
                _ = interrupt.recv() => tracing::info!("SIGINT: the worker finishes what is under way"),
            }
        };
        run(config, shutdown).await
    });
    // A name resolution that hangs in a blocking thread must not delay the end.
    runtime.shutdown_background();
    ended.context("run the worker")
}
