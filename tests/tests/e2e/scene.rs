//! What most tests begin with: customers, endpoints at a receiver, flows that tell them.

use std::collections::BTreeSet;
use std::time::SystemTime;

use actionflow_tests::{
    Cluster, Database, PATIENCE, Receiver, Request, Session, Worker, eventually,
};

/// A database with a watched table `customers`, and a receiver. No endpoint and no flow yet.
pub(crate) struct Scene {
    pub(crate) db: Database<'static>,
    pub(crate) receiver: Receiver,
}

pub(crate) const CUSTOMERS: &str = "
    create table customers (
        id bigint primary key,
        email text,
        name text,
        plan text,
        is_revoked boolean not null default false
    );
    select actionflow.watch_customers('customers')";

impl Scene {
    pub(crate) async fn new() -> Self {
        let db = Database::within(Cluster::shared()).await;
        db.sql.run(CUSTOMERS).await;
        Self {
            db,
            receiver: Receiver::new().await,
        }
    }

    /// With an endpoint `crm` and a published flow `welcome` that tells it.
    pub(crate) async fn with_crm(options: &str) -> Self {
        let scene = Self::new().await;
        scene.endpoint("crm", options).await;
        scene.flow("welcome", &["crm"]).await;
        scene
    }

    /// The same, and the flow starts when `event` happens.
    pub(crate) async fn telling_crm_of(event: &str) -> Self {
        let scene = Self::with_crm("{}").await;
        scene.trigger("welcome", event).await;
        scene
    }

    /// Makes an endpoint whose URL is `/<name>` at the receiver, and returns its secret.
    pub(crate) async fn endpoint(&self, name: &str, options: &str) -> String {
        create_endpoint(
            &self.db.sql,
            name,
            &self.receiver.url(&format!("/{name}")),
            options,
        )
        .await
    }

    /// Makes and publishes a flow with one notify action, `tell`.
    pub(crate) async fn flow(&self, name: &str, endpoints: &[&str]) {
        publish(&self.db.sql, name, &notify("tell", endpoints)).await;
    }

    /// Starts the flow on an event, in mode live, and returns the trigger's id.
    pub(crate) async fn trigger(&self, flow: &str, event: &str) -> String {
        self.sql()
            .text(&format!(
                "select actionflow.add_event_trigger('{flow}', '{event}')"
            ))
            .await
    }

    /// Starts the flow once for each of `users`, live, and returns `status` of each.
    pub(crate) async fn start(&self, flow: &str, users: &[&str]) -> Vec<String> {
        let users = serde_json::json!(users);
        self.sql()
            .rows(&format!(
                "select status from actionflow.start_flow('{flow}', '{{\"targetUserIds\": {users}}}')"
            ))
            .await
    }

    pub(crate) fn sql(&self) -> &Session {
        &self.db.sql
    }

    /// How many rows a view of the schema `actionflow` has.
    pub(crate) async fn count(&self, view: &str) -> i64 {
        let query = format!("select count(*) from actionflow.{view}");
        self.sql().number(&query).await
    }

    /// A worker in whose log deliveries may die.
    pub(crate) async fn worker_amid_deaths(&self) -> Worker {
        self.db
            .worker_builder()
            .expect_in_log(" is dead after ")
            .start()
            .await
    }

    /// Waits until every delivery has reached a final state.
    pub(crate) async fn settle(&self) {
        settle(&self.db.sql).await;
    }

    /// `state|attempts|last_status` of every delivery, by id.
    pub(crate) async fn deliveries(&self) -> Vec<String> {
        self.sql()
            .rows("select state, attempts, last_status from actionflow.deliveries order by id")
            .await
    }
}

pub(crate) async fn create_endpoint(sql: &Session, name: &str, url: &str, options: &str) -> String {
    sql.text(&format!(
        "select actionflow.create_endpoint('{name}', '{url}', $json${options}$json$)"
    ))
    .await
}

/// A definition with one notify action.
pub(crate) fn notify(action: &str, endpoints: &[&str]) -> String {
    serde_json::json!({"actions": [{"name": action, "type": "notify", "endpoints": endpoints}]})
        .to_string()
}

pub(crate) async fn publish(sql: &Session, flow: &str, definition: &str) {
    sql.run(&format!(
        "select actionflow.create_flow('{flow}', $json${definition}$json$)"
    ))
    .await;
    let published = sql
        .text(&format!(
            "select version from actionflow.publish_flow('{flow}')"
        ))
        .await;
    assert_eq!(published, "1");
}

pub(crate) async fn settle(sql: &Session) {
    eventually(PATIENCE, async || {
        let open = sql
            .rows(
                "select id, endpoint, state, attempts, next_attempt_at, last_status, last_error
                 from actionflow.deliveries where state in ('pending', 'running') order by id limit 5",
            )
            .await;
        if open.is_empty() { Ok(()) } else { Err(format!("not delivered, among others: {open:#?}")) }
    })
    .await;
}

/// Waits until `query` returns these rows.
pub(crate) async fn wait_for_rows(sql: &Session, query: &str, rows: &[&str]) {
    eventually(PATIENCE, async || {
        let found = sql.rows(query).await;
        if found == rows {
            Ok(())
        } else {
            Err(format!("{query}\nreturns {found:?} instead of {rows:?}"))
        }
    })
    .await;
}

/// Waits until the session with this process id waits for a lock that one other session holds.
pub(crate) async fn wait_until_blocked(observer: &Session, pid: i64) {
    eventually(PATIENCE, async || {
        let blockers = observer
            .text(&format!("select cardinality(pg_blocking_pids({pid}))"))
            .await;
        if blockers == "1" {
            Ok(())
        } else {
            Err(format!("blocked by {blockers} sessions"))
        }
    })
    .await;
}

/// Checks a request's signature with the library that any receiver would use.
pub(crate) fn is_signed_with(request: &Request, secret: &str) -> bool {
    verification(request, &request.body, secret).is_ok()
}

/// The same over another body.
pub(crate) fn verification(
    request: &Request,
    body: &[u8],
    secret: &str,
) -> Result<(), standardwebhooks::WebhookError> {
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(
            name,
            request
                .header(name)
                .parse()
                .expect("a header holds printable characters"),
        );
    }
    standardwebhooks::Webhook::new(secret)?.verify(body, &headers)
}

/// The different `webhook-id`s among `requests`.
pub(crate) fn ids(requests: &[Request]) -> BTreeSet<String> {
    requests
        .iter()
        .map(|request| request.id().to_owned())
        .collect()
}

/// Seconds since 1970 of a moment.
pub(crate) fn unix_seconds(moment: SystemTime) -> u64 {
    moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
