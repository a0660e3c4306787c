//! Settings: flags, each with its environment variable, checked together so that every problem is reported at once.

use std::net::SocketAddr;

use clap::Parser;
use clap::builder::BoolishValueParser;
use tracing_subscriber::EnvFilter;

use crate::db::Database;
use crate::ingress::TrustedProxies;

/// The largest `--concurrency`: a delivery under way holds a socket, and the usual limit of open files is near.
const MAX_CONCURRENCY: usize = 16_384;

/// The largest `--ingress-connections`: a server seldom allows more connections than a few hundred.
const MAX_INGRESS_CONNECTIONS: usize = 512;

/// The command line as written, before it is checked.
#[derive(Parser)]
#[command(
    name = "actionflow-worker",
    version,
    about = "Delivers the webhooks of actionflow, receives those of others, and keeps its clock"
)]
pub struct Args {
    /// The database, as a URL or as "key=value" pairs
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub database_url: String,

    /// Where inbound webhooks, /healthz, /readyz and /metrics are served
    #[arg(long, env = "ACTIONFLOW_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// How many deliveries may be under way at once
    #[arg(long, env = "ACTIONFLOW_CONCURRENCY", default_value = "1024")]
    pub concurrency: String,

    /// Lets deliveries reach private, loopback and link-local addresses
    #[arg(long, env = "ACTIONFLOW_ALLOW_PRIVATE_ADDRESSES", value_parser = BoolishValueParser::new())]
    pub allow_private_addresses: bool,

    /// How many inbound webhooks may be in the database at once, each on a connection; eight times as many may wait
    #[arg(long, env = "ACTIONFLOW_INGRESS_CONNECTIONS", default_value = "8")]
    pub ingress_connections: String,

    /// Proxies whose Forwarded or X-Forwarded-For header is believed: addresses and networks, separated by commas
    #[arg(
        long,
        env = "ACTIONFLOW_TRUSTED_PROXIES",
        default_value = "",
        hide_default_value = true
    )]
    pub trusted_proxies: String,

    /// How log lines are written: text or json
    #[arg(long, env = "ACTIONFLOW_LOG_FORMAT", default_value = "text")]
    pub log_format: String,

    /// What is logged: a level, or directives such as "warn,tokio=debug"
    #[arg(long, env = "ACTIONFLOW_LOG", default_value = "info")]
    pub log: String,
}

/// Checked settings.
#[derive(Debug)]
pub struct Config {
    pub database: Database,
    pub listen: SocketAddr,
    pub concurrency: usize,
    pub addresses: AddressPolicy,
    pub ingress_connections: usize,
    pub trusted_proxies: TrustedProxies,
    pub log: Log,
}

/// Which addresses deliveries may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Public addresses only.
    PublicOnly,
    /// Any address, for receivers in a private network.
    Any,
}

/// How the worker logs.
#[derive(Debug)]
pub struct Log {
    pub format: LogFormat,
    /// Directives that have been checked.
    pub filter: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Everything that is wrong with the settings, one line each. It holds no setting's value that may be secret.
#[derive(Debug, thiserror::Error)]
#[error("invalid settings:\n  {}", .0.join("\n  "))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names every setting that is missing or malformed.
    pub fn parse(args: &Args) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut keep = |flag: &str, problem: String| problems.push(format!("{flag}: {problem}"));

        let database = database(&args.database_url)
            .map_err(|e| keep("--database-url", e))
            .ok();
        let listen = args.listen.parse().map_err(|_| {
            keep(
                "--listen",
                format!(
                    "{:?} is not an address with a port, such as 127.0.0.1:8080",
                    args.listen
                ),
            );
        });
        let concurrency = number(&args.concurrency, MAX_CONCURRENCY)
            .map_err(|e| keep("--concurrency", e))
            .ok();
        let ingress_connections = number(&args.ingress_connections, MAX_INGRESS_CONNECTIONS)
            .map_err(|e| keep("--ingress-connections", e))
            .ok();
        let trusted_proxies = TrustedProxies::parse(&args.trusted_proxies)
            .map_err(|e| keep("--trusted-proxies", e))
            .ok();
        let format = log_format(&args.log_format)
            .map_err(|e| keep("--log-format", e))
            .ok();
        let filter = log_filter(&args.log).map_err(|e| keep("--log", e)).ok();

        let checked = || {
            Some(Self {
                database: database?,
                listen: listen.ok()?,
                concurrency: concurrency?,
                addresses: match args.allow_private_addresses {
                    true => AddressPolicy::Any,
                    false => AddressPolicy::PublicOnly,
                },
                ingress_connections: ingress_connections?,
                trusted_proxies: trusted_proxies?,
                log: Log {
                    format: format?,
                    filter: filter?,
                },
            })
        };
        checked().ok_or(ConfigError(problems))
    }
}

fn database(text: &str) -> Result<Database, String> {
    if text.is_empty() {
        return Err(
            "missing: give the database, such as postgres://worker@db.example.com/shop".to_owned(),
        );
    }
    // The parser's message may repeat parts of the text, which holds the password: only the kind of problem is told.
    Database::parse(text).map_err(|e| e.to_string())
}

fn number(text: &str, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is not a number from 1 to {max}")),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{text:?} is not a level or a list of directives: {error}"
        )),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is not one of text, json")),
    }
}
