//! What tests of inbound webhooks begin with: a flow, a worker, and requests to the URL of a trigger.

use actionflow_tests::{
    Cluster, Database, PATIENCE, Receiver, Response, Session, Worker, WorkerBuilder, exchange,
    request_bytes,
};
use serde_json::{Value, json};

use crate::scene::{create_endpoint, notify, publish};

/// A database with an endpoint `crm` at a receiver, a published flow `welcome` that tells it, and a worker.
pub(crate) struct Stage<'a> {
    pub(crate) db: Database<'a>,
    pub(crate) receiver: Receiver,
    pub(crate) worker: Worker,
}

/// A webhook trigger of the flow `welcome`.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) id: i64,
    pub(crate) path: String,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Starts the flow for the text in `user`.
pub(crate) fn user_mapping() -> Value {
    json!({"kind": "fields", "targetUserIds": "$.user"})
}

/// A database with the flow, but without a worker.
pub(crate) async fn with_flow<'a>(db: Database<'a>) -> (Database<'a>, Receiver) {
    let receiver = Receiver::new().await;
    create_endpoint(&db.sql, "crm", &receiver.url("/crm"), "{}").await;
    publish(&db.sql, "welcome", &notify("tell", &["crm"])).await;
    (db, receiver)
}

impl Stage<'static> {
    pub(crate) async fn new() -> Self {
        Self::within(Cluster::shared(), |worker| worker).await
    }
}

impl<'a> Stage<'a> {
    /// In `cluster`, with a worker that is configured by `configure`.
    pub(crate) async fn within(
        cluster: &'a Cluster,
        configure: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
    ) -> Self {
        let (db, receiver) = with_flow(Database::within(cluster).await).await;
        let worker = configure(db.worker_builder()).start().await;
        Self {
            db,
            receiver,
            worker,
        }
    }

    pub(crate) fn sql(&self) -> &Session {
        &self.db.sql
    }

    /// A trigger in mode test.
    pub(crate) async fn hook(&self, options: &Value) -> Hook {
        add_hook(&self.db.sql, options).await
    }

    /// A trigger in mode live.
    pub(crate) async fn live(&self, options: &Value) -> Hook {
        let hook = self.hook(options).await;
        self.set_mode(&hook, "live").await;
        hook
    }

    pub(crate) async fn set_mode(&self, hook: &Hook, mode: &str) {
        let set = format!("select actionflow.set_trigger_mode({}, '{mode}')", hook.id);
        self.sql().run(&set).await;
    }

    pub(crate) async fn send(&self, hook: &Hook, sent: &Sent) -> Response {
        self.send_to(&hook.path, sent).await
    }

    pub(crate) async fn send_to(&self, path: &str, sent: &Sent) -> Response {
        send(self.worker.address(), path, sent)
            .await
            .unwrap_or_else(|error| panic!("no answer: {error}; {}", self.worker.log()))
    }

    pub(crate) async fn status(&self, hook: &Hook, sent: &Sent) -> u16 {
        self.send(hook, sent).await.status
    }

    /// `user_id|flow_invocation_id` of every run, by id.
    pub(crate) async fn runs(&self) -> Vec<String> {
        let runs = "select user_id, flow_invocation_id from actionflow.runs order by id";
        self.sql().rows(runs).await
    }

    pub(crate) async fn run_count(&self) -> i64 {
        let count = "select count(*) from actionflow.runs";
        self.sql().number(count).await
    }

    /// Reasons of all refusals, oldest first.
    pub(crate) async fn reasons(&self) -> Vec<String> {
        let reasons =
            "select status, reason from actionflow.webhook_rejections order by rejected_at";
        self.sql().rows(reasons).await
    }
}

pub(crate) async fn add_hook(sql: &Session, options: &Value) -> Hook {
    let add = format!(
        "select trigger_id, path from actionflow.add_webhook_trigger('welcome', $json${options}$json$)"
    );
    let row = sql.text(&add).await;
    let (id, path) = row.split_once('|').expect("two columns");
    Hook {
        id: id.parse().expect("a number"),
        path: path.to_owned(),
    }
}

/// Sends a request, and waits for its answer.
pub(crate) async fn send(address: &str, path: &str, sent: &Sent) -> std::io::Result<Response> {
    tokio::time::timeout(PATIENCE, exchange(address, &sent.bytes(path)))
        .await
        .map_err(std::io::Error::from)?
}

impl Sent {
    pub(crate) fn new(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST".to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: body.into(),
        }
        .header("content-type", content_type)
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::new("application/json", body.to_string())
    }

    pub(crate) fn form(body: &str) -> Self {
        Self::new("application/x-www-form-urlencoded", body)
    }

    /// Without a body.
    pub(crate) fn bare(method: &str, query: &str) -> Self {
        Self {
            method: method.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the texts of an object as headers.
    pub(crate) fn signed(self, headers: &Value) -> Self {
        let headers = headers.as_object().expect("an object of headers");
        headers.iter().fold(self, |sent, (name, value)| {
            sent.header(name, value.as_str().expect("a header is a text"))
        })
    }

    /// Its body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let target = match self.query.as_str() {
            "" => path.to_owned(),
            query => format!("{path}?{query}"),
        };
        request_bytes(&self.method, &target, &self.headers, &self.body)
    }
}
