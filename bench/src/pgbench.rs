//! Runs of pgbench: clients that execute a script over and over, each time in a transaction of its own.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::Bench;

/// What one run has done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    pub transactions: f64,
    pub per_second: f64,
}

/// Runs a script for so long.
///
/// # Errors
/// When pgbench is missing, or a statement fails.
pub async fn run(
    bench: &Bench,
    database: &str,
    script: &Path,
    clients: u32,
    seconds: u32,
) -> Result<Run> {
    let output = Command::new(&bench.programs.pgbench)
        .args(["--no-vacuum", "--protocol=prepared"])
        .arg(format!("--client={clients}"))
        .arg(format!("--jobs={}", clients.min(2)))
        .arg(format!("--time={seconds}"))
        .arg("--file")
        .arg(script)
        .arg(database)
        .output()
        .await
        .context("run pgbench")?;
    ensure!(
        output.status.success(),
        "pgbench failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(output: &str) -> Result<Run> {
    let number = |label: &str| -> Result<f64> {
        let value = output
            .lines()
            .find_map(|line| line.strip_prefix(label))
            .and_then(|rest| rest.split_whitespace().next())
            .with_context(|| format!("no {label:?} in pgbench's output"))?;
        Ok(value.parse()?)
    };
    Ok(Run {
        transactions: number("number of transactions actually processed: ")?,
        per_second: number("tps = ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_pgbench_are_found() {
        let output = "number of clients: 8\nnumber of transactions actually processed: 812\n\
                      tps = 81.250000 (without initial connection time)\n";
        let expected = Run {
            transactions: 812.0,
            per_second: 81.25,
        };
        assert_eq!(parse(output).unwrap(), expected);
    }
}
