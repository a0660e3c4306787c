//! Runs of [wrk](https://github.com/wg/wrk): connections that send one request after the other.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

/// After the last request, so that its answer is counted; far longer than any takes.
const LAST_ANSWER_SECONDS: u32 = 1;

/// What to send, and where.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) script: &'a Path,
    pub(super) url: String,
    pub(super) connections: u32,
    pub(super) seconds: u32,
    /// `None`: the URL is asked by GET.
    pub(super) signed: Option<Signed<'a>>,
}

/// A POST, the same each time but for the id of the delivery.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    /// A part of the ids: different in each run against one database.
    pub(super) run: u32,
    /// The value of the signature's header.
    pub(super) signature: &'a str,
    pub(super) body: &'a str,
}

/// What `wrk.lua` prints.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Report {
    pub(super) requests: u64,
    /// From the first request to the last answer.
    pub(super) seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
    /// Answers with a status above 399.
    refused: u64,
    /// Requests without an answer.
    broken: u64,
}

/// Sends for so many seconds, and then waits for the answers that are due.
///
/// # Errors
/// When wrk is missing, or a request is refused or not answered.
pub(super) async fn run(load: &Load<'_>) -> Result<Report> {
    let mut command = Command::new("wrk");
    command
        // More would only take turns: the server needs the machine's cores, too.
        .arg("--threads=1")
        .arg(format!("--connections={}", load.connections))
        .arg(format!("--duration={}", load.seconds + LAST_ANSWER_SECONDS))
        .arg("--script")
        .arg(load.script)
        .args([&load.url, "--", &load.seconds.to_string()]);
    if let Some(signed) = &load.signed {
        command.args([&signed.run.to_string(), signed.signature, signed.body]);
    }
    let output = command.output().await.context("run wrk")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "wrk failed: {printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report = parse(&printed)?;
    ensure!(
        report.requests > 0 && report.refused == 0 && report.broken == 0,
        "not every request to {} was accepted: {report:?}",
        load.url
    );
    Ok(report)
}

fn parse(output: &str) -> Result<Report> {
    let line = output.lines().find(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("no figures in wrk's output: {output}"))?;
    Ok(serde_json::from_str(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_wrk_are_found() {
        let output = "Running 3s test @ http://127.0.0.1:1/\n  34626 requests in 4.02s, 3.86MB read\n\
            {\"requests\": 34626, \"seconds\": 3.002819, \"p50_us\": 1702, \"p99_us\": 16957, \
            \"max_us\": 101050, \"refused\": 0, \"broken\": 0}\n";
        let expected = Report {
            requests: 34_626,
            seconds: 3.002_819,
            p50_us: 1702.0,
            p99_us: 16_957.0,
            max_us: 101_050.0,
            refused: 0,
            broken: 0,
        };
        assert_eq!(parse(output).unwrap(), expected);
    }
}
