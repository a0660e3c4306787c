//! The private server: fresh databases for each run, and what a run cost it.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::{Client, Config, NoTls};

/// A server reached as its superuser.
#[derive(Debug)]
pub struct Server {
    base: String,
}

impl Server {
    /// `base` is a connection URL without a database, such as `postgres://postgres:secret@127.0.0.1:5432`.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into() }
    }

    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.base)
    }

    /// Connects; the connection ends when the client is dropped.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let config: Config = self.url(database).parse().context("parse the server URL")?;
        let (client, connection) = config
            .connect(NoTls)
            .await
            .with_context(|| format!("connect to database {database}"))?;
        tokio::spawn(async move {
            // A lost connection is reported by the query that needed it; dropping a database closes the idle ones.
            let _lost = connection.await;
        });
        Ok(client)
    }

    /// Makes an empty database, or a copy of `template`, replacing one of the same name.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create(&self, database: &str, template: Option<&str>) -> Result<()> {
        self.drop(database).await?;
        let template = template.unwrap_or("template0");
        let client = self.connect("postgres").await?;
        client
            .batch_execute(&format!("create database {database} template {template}"))
            .await
            .with_context(|| format!("copy database {template} to {database}"))?;
        // So that no checkpoint for an earlier run's pages falls into this one.
        client
            .batch_execute("checkpoint")
            .await
            .context("checkpoint")
    }

    /// # Errors
    /// When the server refuses.
    pub async fn drop(&self, database: &str) -> Result<()> {
        self.connect("postgres")
            .await?
            .batch_execute(&format!("drop database if exists {database} with (force)"))
            .await
            .with_context(|| format!("drop database {database}"))
    }

    /// Bytes of WAL that the server has written so far.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn wal_bytes(&self) -> Result<f64> {
        self.number("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8")
            .await
    }

    /// Transactions committed in `database` so far. Sessions publish their counts when they end or have been idle for a
    /// second, hence the wait.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn commits(&self, database: &str) -> Result<f64> {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        self.published_commits(database).await
    }

    /// The same without the wait, for a database that nobody has used yet.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn published_commits(&self, database: &str) -> Result<f64> {
        let query = format!(
            "select xact_commit::float8 from pg_stat_database where datname = '{database}'"
        );
        self.number(&query).await
    }

    async fn number(&self, query: &str) -> Result<f64> {
        let row = self
            .connect("postgres")
            .await?
            .query_one(query, &[])
            .await
            .with_context(|| format!("run {query}"))?;
        Ok(row.try_get(0)?)
    }
}
