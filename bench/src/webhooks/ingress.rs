//! Signed requests end to end: from wrk to the worker's 202, which comes after the commit.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio_postgres::Client;

use super::payloads::{SECRET, event, fields, sign};
use super::wrk::{self, Signed};
use super::{Settings, http, payloads};
use crate::contestant::{Contestant, start_actionflow_at};
use crate::database::Server;
use crate::report::{Table, range};
use crate::stats::Summary;
use crate::{Bench, pgbench};

const TEMPLATE: &str = "bench_template_webhooks";
const DATABASE: &str = "bench_webhooks";

/// Opens the worker's connections, and fills their caches.
const WARM_UP_SECONDS: u32 = 1;

/// So that what the warm-up leaves to do does not fall into the run.
const PAUSE: Duration = Duration::from_millis(500);

/// As many as the worker has for webhooks by default.
const WORKER_CONNECTIONS: u32 = 8;

/// What is done over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// The HTTP server alone.
    Health,
    /// A signed request to the webhook of this flow.
    Webhook(Flow),
    /// The database's part of that, called by pgbench with so many clients; no worker runs.
    Function(u32),
    /// A row that holds the request's body, inserted by pgbench.
    Insert(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Ends at once.
    Empty,
    /// Notifies the receiver, which the worker does meanwhile.
    Notify,
}

/// One run.
#[derive(Debug, Default)]
struct Sample {
    per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    runs: Option<f64>,
    worker_cpu_us_each: Option<f64>,
    /// Requests a second that arrived at the receiver meanwhile.
    delivered_per_second: Option<f64>,
}

/// What all runs share.
struct Stage<'a> {
    bench: &'a Bench,
    settings: &'a Settings,
    /// The value of the signature's header.
    signature: String,
    /// Paths of the webhooks' URLs.
    empty: String,
    notify: String,
}

impl Flow {
    fn name(self) -> &'static str {
        match self {
            Self::Empty => "note",
            Self::Notify => "welcome",
        }
    }
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Health => "GET /healthz",
            Self::Webhook(Flow::Empty) => "webhook, flow without actions",
            Self::Webhook(Flow::Notify) => "webhook, flow with a notify",
            Self::Function(_) => "receive_webhook alone, flow without actions",
            Self::Insert(_) => "insert of the body",
        }
    }

    fn clients(self, settings: &Settings) -> u32 {
        match self {
            Self::Health | Self::Webhook(_) => settings.connections,
            Self::Function(clients) | Self::Insert(clients) => clients,
        }
    }
}

/// Measures each load once a round. `signer` has pgcrypto.
///
/// # Errors
/// When a request is not answered with 202, or there are other runs than such answers.
pub(super) async fn run(bench: &Bench, signer: &Server, settings: &Settings) -> Result<Table> {
    let stage = prepare(bench, signer, settings).await?;
    let loads = [
        Load::Health,
        Load::Webhook(Flow::Empty),
        Load::Webhook(Flow::Notify),
        Load::Function(WORKER_CONNECTIONS),
        Load::Function(settings.connections),
        Load::Insert(WORKER_CONNECTIONS),
        Load::Insert(settings.connections),
    ];
    let mut samples: Vec<Vec<Sample>> = loads.iter().map(|_| Vec::new()).collect();
    for round in 1..=bench.rounds {
        for (&load, samples) in loads.iter().zip(&mut samples) {
            let sample = stage.measure(load).await;
            let sample = sample.with_context(|| format!("measure {}", load.name()))?;
            eprintln!(
                "webhooks, round {round}: {}, {} clients: {:.0}/s{}",
                load.name(),
                load.clients(settings),
                sample.per_second,
                sample
                    .p99_ms
                    .map_or_else(String::new, |p99| format!(", p99 {p99:.2} ms"))
            );
            samples.push(sample);
        }
    }
    bench.server.drop(TEMPLATE).await?;
    Ok(table(&loads, settings, &samples))
}

fn table(loads: &[Load], settings: &Settings, samples: &[Vec<Sample>]) -> Table {
    let mut table = Table::new(
        "Webhooks end to end, each answered after its commit",
        &[
            "load",
            "clients",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "runs written",
            "worker CPU us each",
            "delivered/s meanwhile",
        ],
    );
    for (load, samples) in loads.iter().zip(samples) {
        let column = |value: fn(&Sample) -> Option<f64>| {
            range(Summary::of(samples.iter().filter_map(value)))
        };
        table.push([
            load.name().to_owned(),
            load.clients(settings).to_string(),
            column(|s| Some(s.per_second)),
            column(|s| s.p50_ms),
            column(|s| s.p99_ms),
            column(|s| s.runs),
            column(|s| s.worker_cpu_us_each),
            column(|s| s.delivered_per_second),
        ]);
    }
    table
}

/// Makes the database that each run starts from a copy of.
async fn prepare<'a>(
    bench: &'a Bench,
    signer: &Server,
    settings: &'a Settings,
) -> Result<Stage<'a>> {
    let pgcrypto = payloads::open(signer, TEMPLATE, "create extension pgcrypto").await?;
    let signature = format!("sha256={}", sign(&pgcrypto, event().as_bytes()).await?);
    drop(pgcrypto);
    signer.drop(TEMPLATE).await?;
    let template = Contestant::Actionflow.template();
    bench.server.create(TEMPLATE, Some(&template)).await?;
    let client = bench.server.connect(TEMPLATE).await?;
    let options = json!({
        "signature": {"preset": "github", "secret": SECRET},
        "mapping": fields(false),
    });
    let sql = include_str!("../../sql/webhooks/triggers.sql")
        .replace(":options", &format!("'{options}'"));
    client
        .batch_execute(&sql)
        .await
        .context("make the webhooks")?;
    Ok(Stage {
        bench,
        settings,
        signature,
        empty: path(&client, Flow::Empty).await?,
        notify: path(&client, Flow::Notify).await?,
    })
}

async fn path(client: &Client, flow: Flow) -> Result<String> {
    let sql = "select path from webhooks where flow = $1";
    let row = client.query_one(sql, &[&flow.name()]).await;
    Ok(row.context("read a webhook's path")?.try_get(0)?)
}

/// Runs that there are.
async fn runs(client: &Client) -> Result<i64> {
    let row = client
        .query_one("select count(*) from actionflow.runs", &[])
        .await;
    Ok(row.context("count the runs")?.try_get(0)?)
}

impl Stage<'_> {
    fn path(&self, flow: Flow) -> &str {
        match flow {
            Flow::Empty => &self.empty,
            Flow::Notify => &self.notify,
        }
    }

    async fn measure(&self, load: Load) -> Result<Sample> {
        let server = &self.bench.server;
        server.create(DATABASE, Some(TEMPLATE)).await?;
        let sample = match load {
            Load::Health => self.serve(None).await?,
            Load::Webhook(flow) => self.serve(Some(flow)).await?,
            Load::Function(clients) => self.call(clients).await?,
            Load::Insert(clients) => self.insert(clients).await?,
        };
        server.drop(DATABASE).await?;
        Ok(sample)
    }

    /// Requests to a worker: to the webhook of `flow`, or to the page that says that it is there.
    async fn serve(&self, flow: Option<Flow>) -> Result<Sample> {
        let address = free_address()?;
        let mut worker = start_actionflow_at(self.bench, DATABASE, address)?;
        http::wait_until_ready(&mut worker, address).await?;
        let client = self.bench.server.connect(DATABASE).await?;

        self.send(address, flow, 1, WARM_UP_SECONDS).await?;
        tokio::time::sleep(PAUSE).await;
        client.batch_execute("checkpoint").await?;
        let before = (runs(&client).await?, http::accepted(address).await?);
        let cpu = worker.cpu_seconds()?;
        self.bench.receiver.reset();

        let report = self.send(address, flow, 2, self.settings.seconds).await?;

        let delivered = self.bench.receiver.ledger().arrivals as f64;
        let cpu = worker.cpu_seconds()? - cpu;
        let written = u64::try_from(runs(&client).await? - before.0)?;
        let accepted = http::accepted(address).await? - before.1;
        // Not stopped: it would first deliver what it has claimed.
        worker.kill().await?;
        let expected = if flow.is_some() { report.requests } else { 0 };
        ensure!(
            (written, accepted) == (expected, expected),
            "{written} runs and {accepted} answers 202 after {expected} requests"
        );
        Ok(Sample {
            per_second: report.requests as f64 / report.seconds,
            p50_ms: Some(report.p50_us / 1e3),
            p99_ms: Some(report.p99_us / 1e3),
            runs: flow.map(|_| written as f64),
            worker_cpu_us_each: Some(cpu * 1e6 / report.requests as f64),
            delivered_per_second: (flow == Some(Flow::Notify))
                .then_some(delivered / report.seconds),
        })
    }

    async fn send(
        &self,
        address: SocketAddr,
        flow: Option<Flow>,
        run: u32,
        seconds: u32,
    ) -> Result<wrk::Report> {
        let path = flow.map_or("/healthz", |flow| self.path(flow));
        wrk::run(&wrk::Load {
            script: &self.settings.wrk_script,
            url: format!("http://{address}{path}"),
            connections: self.settings.connections,
            seconds,
            signed: flow.map(|_| Signed {
                run,
                signature: &self.signature,
                body: event(),
            }),
        })
        .await
    }

    /// The function that the worker calls, called with the same by clients without HTTP.
    async fn call(&self, clients: u32) -> Result<Sample> {
        let token = self.path(Flow::Empty).rsplit('/').next();
        let token = token.context("a path without a token")?;
        let script = include_str!("../../sql/webhooks/receive.sql")
            .replace(":token", &format!("'{token}'"))
            .replace(":signature", &format!("'{}'", self.signature))
            .replace(":body", &format!("'{}'", hex(event())));
        let sample = self.pgbench("receive.sql", &script, clients).await?;
        let client = self.bench.server.connect(DATABASE).await?;
        let written = runs(&client).await? as f64;
        ensure!(
            Some(written) == sample.runs,
            "{written} runs after {:?} calls",
            sample.runs
        );
        Ok(sample)
    }

    async fn insert(&self, clients: u32) -> Result<Sample> {
        let script = format!(
            "insert into requests (body) values (decode('{}', 'hex'))",
            hex(event())
        );
        let sample = self.pgbench("insert_body.sql", &script, clients).await?;
        Ok(Sample {
            runs: None,
            ..sample
        })
    }

    async fn pgbench(&self, name: &str, script: &str, clients: u32) -> Result<Sample> {
        let file: PathBuf = self.bench.programs.logs.join(name);
        write(&file, script)?;
        let run = pgbench::run(self.bench, DATABASE, &file, clients, self.settings.seconds).await?;
        Ok(Sample {
            per_second: run.per_second,
            runs: Some(run.transactions),
            ..Sample::default()
        })
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
