//! What a session calls over and over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;
use tokio_postgres::{Client, Statement};

use super::setup::Stage;
use crate::Bench;

/// Enough for a new backend to fill its caches and to open its connection.
const WARM_UP: u32 = 20;

/// One statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// `emit_event` with an event that starts nothing: the database's part of an Enrich.
    Emit,
    /// `emit_event` with an event whose flow begins with an enrich action.
    Enrich,
    /// Inserts a row like that of the event, and calls the endpoint by libcurl.
    Libcurl(Connection),
    /// Calls the endpoint by libcurl, and writes nothing.
    HttpPost(Connection),
}

/// What libcurl does with its connection after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    Kept,
    /// Closes it, so that each call makes a new one.
    New,
}

/// Whether the session waits for the flush of its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    Durable,
    Asynchronous,
}

impl Call {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Emit => "emit_event, no flow",
            Self::Enrich => "emit_event, enrich",
            Self::Libcurl(Connection::Kept) => "row, libcurl, kept connection",
            Self::Libcurl(Connection::New) => "row, libcurl, new connection",
            Self::HttpPost(Connection::Kept) => "libcurl alone, kept connection",
            Self::HttpPost(Connection::New) => "libcurl alone, new connection",
        }
    }

    pub(super) fn needs_actionflow(self) -> bool {
        matches!(self, Self::Emit | Self::Enrich)
    }

    /// Whether the endpoint is asked.
    pub(super) fn asks(self) -> bool {
        self != Self::Emit
    }

    /// Takes one text, and returns jsonb.
    fn sql(self, url: &str) -> String {
        let properties = r#"'{"ip": "203.0.113.9"}'"#;
        match self {
            Self::Emit => format!("select actionflow.emit_event('look', $1, {properties})"),
            Self::Enrich => format!("select actionflow.emit_event('login', $1, {properties})"),
            Self::Libcurl(connection) => {
                let is_kept = connection == Connection::Kept;
                format!("select check_login($1, {properties}, {is_kept})")
            }
            Self::HttpPost(Connection::Kept) => format!("select http_post('{url}', $1)::jsonb"),
            Self::HttpPost(Connection::New) => format!("select http_post_once('{url}', $1)::jsonb"),
        }
    }

    /// Whether this is what the receiver said, and not what a failed action falls back to.
    pub(super) fn is_answered_by(self, answer: &Value) -> bool {
        let score = match self {
            Self::Emit => return answer["event_id"].is_string(),
            Self::Enrich => answer.pointer("/results/risk/data/score"),
            Self::Libcurl(_) | Self::HttpPost(_) => answer.pointer("/data/score"),
        };
        score.is_some()
    }
}

impl Commit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Durable => "on",
            Self::Asynchronous => "off",
        }
    }
}

/// A connection that makes one kind of call.
pub(super) struct Session {
    client: Client,
    statement: Statement,
    parameter: String,
    call: Call,
}

impl Session {
    /// `number` is the customer that the session calls for.
    ///
    /// # Errors
    /// When the server refuses.
    pub(super) async fn open(
        bench: &Bench,
        stage: &Stage,
        call: Call,
        commit: Commit,
        number: u32,
    ) -> Result<Self> {
        let client = bench.server.connect(stage.database).await?;
        client
            .batch_execute(&format!("set synchronous_commit = {}", commit.name()))
            .await?;
        let sql = call.sql(&bench.receiver.enrich_url());
        let statement = client.prepare(&sql).await;
        Ok(Self {
            statement: statement.with_context(|| format!("prepare {sql}"))?,
            client,
            parameter: match call {
                Call::HttpPost(_) => stage.body.clone(),
                _ => number.to_string(),
            },
            call,
        })
    }

    /// Opens so many sessions, and lets each make a few calls.
    ///
    /// # Errors
    /// When the server refuses, or a call is not answered by the endpoint.
    pub(super) async fn open_warm(
        bench: &Bench,
        stage: &Stage,
        call: Call,
        commit: Commit,
        count: u32,
    ) -> Result<Vec<Self>> {
        let sessions = (1..=count).map(|number| Session::open(bench, stage, call, commit, number));
        let sessions = try_join_all(sessions).await?;
        try_join_all(sessions.iter().map(Session::warm_up)).await?;
        Ok(sessions)
    }

    async fn warm_up(&self) -> Result<()> {
        for _ in 0..WARM_UP {
            self.call().await?;
        }
        Ok(())
    }

    /// Makes the call, whoever answers it.
    ///
    /// # Errors
    /// When the server refuses.
    pub(super) async fn ask(&self) -> Result<Value> {
        let row = self
            .client
            .query_one(&self.statement, &[&self.parameter])
            .await
            .with_context(|| format!("run {}", self.call.name()))?;
        Ok(row.try_get(0)?)
    }

    /// Makes the call, and returns what the endpoint answered.
    ///
    /// # Errors
    /// When the server refuses, or the endpoint was not asked.
    pub(super) async fn call(&self) -> Result<Value> {
        let answer = self.ask().await?;
        ensure!(
            self.call.is_answered_by(&answer),
            "{} was not answered by the endpoint: {answer}",
            self.call.name()
        );
        Ok(answer)
    }

    /// Makes the call in a transaction of its own, and returns how long it took without the commit.
    ///
    /// # Errors
    /// When the server refuses, or the endpoint was not asked.
    pub(super) async fn call_in_transaction(&self) -> Result<(Value, Duration)> {
        self.client.batch_execute("begin").await?;
        let start = Instant::now();
        let answer = self.call().await?;
        let took = start.elapsed();
        self.client.batch_execute("commit").await?;
        Ok((answer, took))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_failed_action_falls_back_to_is_no_answer() {
        let answered = json!({"event_id": "1", "action": "allow", "results": {"risk": {"action": "allow", "data": {"score": 1}}}});
        let failed =
            json!({"event_id": "1", "action": "allow", "results": {"risk": {"action": "allow"}}});
        assert!(Call::Enrich.is_answered_by(&answered));
        assert!(!Call::Enrich.is_answered_by(&failed));
        assert!(Call::Emit.is_answered_by(&failed));
    }
}
