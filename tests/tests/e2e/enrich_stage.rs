//! What the tests of the rendezvous begin with: an endpoint that is asked, and callers who wait for its answer.

use std::time::{Duration, Instant};

use actionflow_tests::{
    Answer, Cluster, Database, PATIENCE, Receiver, Request, Session, SqlError, Worker, eventually,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::scene::{create_endpoint, publish};

/// What the action `risk` may take. A failure that is told before half of it has passed was told, not waited for.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A server whose ring has room for few.
pub(crate) const NARROW: &[&str] = &[
    "shared_preload_libraries = 'actionflow'",
    "actionflow.enrich_slots = 16",
];

/// The slots of [`NARROW`].
pub(crate) const SLOTS: usize = 16;

/// A database whose events `login`, `strict` and `hasty` ask the endpoint `risk`, at `/risk` of the receiver: `login` and
/// `hasty` are allowed when that fails, `strict` is an error; `hasty` takes half a second at most.
pub(crate) struct Stage<'a> {
    pub(crate) db: Database<'a>,
    pub(crate) receiver: Receiver,
}

impl Stage<'static> {
    pub(crate) async fn new() -> Self {
        Stage::within(Cluster::shared()).await
    }
}

impl<'a> Stage<'a> {
    pub(crate) async fn within(cluster: &'a Cluster) -> Self {
        let db = Database::within(cluster).await;
        let receiver = Receiver::new().await;
        receiver.always("/risk", Answer::By(echo));
        // The breaker is not what these tests are about.
        let options = r#"{"breaker_failures": 1000}"#;
        create_endpoint(&db.sql, "risk", &receiver.url("/risk"), options).await;
        db.sql
            .run("select actionflow.set_setting('enrich_budget_ms', '300000')")
            .await;
        let whole = TIMEOUT.as_millis();
        for (event, timeout_ms, on_failure) in [
            ("login", whole, "allow"),
            ("strict", whole, "error"),
            ("hasty", 500, "allow"),
        ] {
            let action = json!({"name": "risk", "type": "enrich", "endpoint": "risk",
                "timeout_ms": timeout_ms, "on_failure": on_failure});
            let definition = json!({"actions": [action]}).to_string();
            publish(&db.sql, event, &definition).await;
            db.sql
                .run(&format!(
                    "select actionflow.add_event_trigger('{event}', '{event}')"
                ))
                .await;
        }
        Self { db, receiver }
    }

    pub(crate) fn sql(&self) -> &Session {
        &self.db.sql
    }

    /// A worker that takes requests.
    pub(crate) async fn worker(&self) -> Worker {
        let worker = self.db.worker().await;
        self.wait_for_listeners(1).await;
        worker
    }

    /// A worker whose connections are cut on purpose, so that it may complain.
    pub(crate) async fn worker_amid_faults(&mut self) -> Worker {
        self.db.expect_in_log("terminating connection");
        let builder = self.db.worker_builder().expect_in_log("");
        let worker = builder.start().await;
        self.wait_for_listeners(1).await;
        worker
    }

    /// Waits until so many workers' connections, or more, have begun to take requests.
    pub(crate) async fn wait_for_listeners(&self, count: i64) {
        let takes =
            format!("select least(count(*), {count}) {TAKES} and query like '%take_enrichments%'");
        wait_for_number(self.sql(), &takes, count).await;
    }

    /// A caller on a session of its own, from now on.
    pub(crate) async fn call(&self, statement: &str) -> Caller {
        Caller::of(self.db.session().await, statement).await
    }

    /// Callers for `users`, each on a session of its own.
    pub(crate) async fn logins(&self, users: impl IntoIterator<Item = usize>) -> Vec<Caller> {
        let mut callers = Vec::new();
        for user in users {
            callers.push(self.call(&emit("login", user)).await);
        }
        callers
    }

    /// One event, from asking to answer.
    pub(crate) async fn login(&self, user: usize) -> Value {
        self.sql().json(&emit("login", user)).await
    }

    /// Lets every request wait for [`Receiver::release`] and then have its [`echo`].
    pub(crate) fn hold_answers(&self) {
        self.receiver.hold();
        self.receiver.always(
            "/risk",
            Answer::By(|request| Answer::Later(Box::new(echo(request)))),
        );
    }

    /// Lets go all that are held, and those to come, whose clients may have gone.
    pub(crate) fn let_go(&self) {
        self.receiver.release(10_000);
    }

    pub(crate) async fn in_flight(&self) -> i64 {
        self.sql().number(IN_FLIGHT).await
    }

    /// Waits until nothing is under way any more.
    pub(crate) async fn wait_until_idle(&self) {
        wait_for_number(self.sql(), IN_FLIGHT, 0).await;
    }

    /// Asks until an answer comes: the worker may still be connecting.
    pub(crate) async fn wait_until_served(&self) {
        eventually(PATIENCE, async || {
            let answer = self.login(0).await;
            match is_echo(&answer, 0) {
                true => Ok(()),
                false => Err(answer.to_string()),
            }
        })
        .await;
    }

    /// As many callers at once as there are slots, which are all asked at the same moment and each get their own answer.
    pub(crate) async fn fill_every_slot(&self) {
        let before = self.receiver.all().len();
        self.hold_answers();
        let callers = self.logins(0..SLOTS).await;
        self.receiver.wait_for("/risk", before + SLOTS).await;
        assert_eq!(self.in_flight().await, SLOTS as i64);
        self.let_go();
        for (user, caller) in callers.into_iter().enumerate() {
            assert_echo(&caller.answer().await, user);
        }
        assert_eq!(self.in_flight().await, 0);
    }
}

/// The worker's connection that takes, as part of a query.
pub(crate) const TAKES: &str = "from pg_stat_activity where datname = current_database() and application_name = 'actionflow-worker enrich takes'";

const IN_FLIGHT: &str =
    "select enrich_in_flight from actionflow.endpoint_health where endpoint = 'risk'";

/// A session that waits for an answer.
pub(crate) struct Caller {
    pub(crate) pid: i64,
    since: Instant,
    call: JoinHandle<(Session, Result<Vec<String>, SqlError>)>,
}

impl Caller {
    /// Begins a statement on a session.
    pub(crate) async fn of(session: Session, statement: &str) -> Self {
        let pid = session.number("select pg_backend_pid()").await;
        let statement = statement.to_owned();
        let call = tokio::spawn(async move {
            let result = session.try_rows(&statement).await;
            (session, result)
        });
        Self {
            pid,
            since: Instant::now(),
            call,
        }
    }

    /// What became of it, and its session.
    pub(crate) async fn end(self) -> (Session, Result<Vec<String>, SqlError>) {
        tokio::time::timeout(TIMEOUT * 2, self.call)
            .await
            .expect("a call ends")
            .expect("a call does not panic")
    }

    /// The answer to its event.
    pub(crate) async fn answer(self) -> Value {
        let rows = self.end().await.1.expect("the event is accepted");
        serde_json::from_str(&rows[0]).expect("an answer is JSON")
    }

    /// The error that its event ends with.
    pub(crate) async fn error(self) -> SqlError {
        self.end().await.1.expect_err("the event is refused")
    }

    /// The failure of its action, which must not have taken until the deadline.
    pub(crate) async fn prompt_failure(self) -> String {
        let since = self.since;
        let answer = self.answer().await;
        let took = since.elapsed();
        assert!(took < TIMEOUT / 2, "{answer} took {took:?}");
        failure(&answer)
    }
}

/// The statement that emits an event with a property of its own.
pub(crate) fn emit(event: &str, user: usize) -> String {
    format!(
        "select actionflow.emit_event('{event}', '{user}', '{}')",
        json!({"n": user * 7})
    )
}

/// Whether an answer is what [`echo`] says about the event of [`emit`].
pub(crate) fn is_echo(answer: &Value, user: usize) -> bool {
    answer["results"]["risk"]["data"]
        == json!({"user": user.to_string(), "properties": {"n": user * 7}})
}

pub(crate) fn assert_echo(answer: &Value, user: usize) {
    assert!(is_echo(answer, user), "user {user} was answered {answer}");
}

/// The kind of failure of the action `risk`.
pub(crate) fn failure(answer: &Value) -> String {
    let kind = answer["results"]["risk"]["failure"].as_str();
    kind.unwrap_or_else(|| panic!("no failure: {answer}"))
        .to_owned()
}

/// Answers with what was asked.
pub(crate) fn echo(request: &Request) -> Answer {
    let data = &request.json()["data"];
    let said = json!({"user": data["user"]["id"], "properties": data["event"]["properties"]});
    Answer::json(&json!({"data": said}))
}

/// Waits until `query` returns this number.
pub(crate) async fn wait_for_number(sql: &Session, query: &str, number: i64) {
    eventually(PATIENCE, async || match sql.number(query).await {
        found if found == number => Ok(()),
        found => Err(format!("{query}\nreturns {found} instead of {number}")),
    })
    .await;
}
