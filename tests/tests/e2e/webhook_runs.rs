//! A webhook becomes a run: what arrives is mapped, committed, answered, delivered, and never started twice.

use std::time::SystemTime;

use actionflow_tests::{Database, Oracle, PATIENCE, Session, eventually};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::scene::{unix_seconds, wait_for_rows};
use crate::webhook_stage::{Sent, Stage, send, user_mapping};

const WHSEC: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// What keeps requests from being committed until it is given up.
pub(crate) struct Barrier {
    holder: Session,
    /// A transaction sees the other sessions as they were when it first looked.
    observer: Session,
}

impl Barrier {
    pub(crate) async fn raise(stage: &Stage<'_>) -> Self {
        Self::in_database(&stage.db).await
    }

    pub(crate) async fn in_database(db: &Database<'_>) -> Self {
        let (holder, observer) = (db.session().await, db.session().await);
        holder.run("begin; lock table actionflow._run, actionflow._run_history, actionflow._start_key in share mode").await;
        Self { holder, observer }
    }

    /// Waits until so many requests stand before it.
    pub(crate) async fn wait_for(&self, count: usize) {
        eventually(PATIENCE, async || match self.waiting().await {
            pids if pids.len() == count => Ok(()),
            pids => Err(format!("{} of {count} requests wait", pids.len())),
        })
        .await;
    }

    /// The backends that stand before it.
    pub(crate) async fn waiting(&self) -> Vec<String> {
        let waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock'
            and datname = current_database() and application_name = 'actionflow-worker webhooks'";
        self.observer.rows(waiting).await
    }

    pub(crate) async fn fall(self) {
        self.holder.run("rollback").await;
    }
}

fn order() -> Value {
    json!({"id": "ord-7", "customer": {"id": 42, "name": "Ana"}, "lines": [{"sku": "a"}, {"sku": "b"}],
        "total": 12.50, "ids": ["43", 44]})
}

#[tokio::test]
async fn t20_t21_a_webhook_becomes_a_run_with_its_variables_and_is_delivered() {
    let stage = Stage::new().await;
    let definition = r#"{"variables": {"sku": {"default": "none"}, "gift": {"default": "no"}, "total": {"required": true}},
        "actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]}"#;
    let publish = format!(
        "select actionflow.update_flow('welcome', '{definition}'); select actionflow.publish_flow('welcome')"
    );
    stage.sql().run(&publish).await;
    let mapping = json!({"kind": "fields", "targetUserIds": "$.customer.id", "flowInvocationId": "$.id",
        "variables": {"sku": "$.lines[*].sku", "total": "$.total", "source": {"const": "shop"}},
        "notificationDetail": "$.customer", "metadata": {"by": "$.lines[0].sku"}});
    let hook = stage.live(&json!({"mapping": mapping})).await;
    let response = stage.send(&hook, &Sent::json(&order())).await;
    assert_eq!(
        (response.status, response.json()),
        (
            202,
            json!({"data": {"flowInvocationId": "ord-7", "started": 1, "duplicates": 0, "ignored": []}})
        )
    );
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.header("cache-control"), "no-store");
    let told = stage.receiver.wait_for_one("/crm").await.json();
    assert_eq!(told["type"], "action-flow-started");
    let data = &told["data"];
    assert_eq!(
        (&data["mode"], &data["version"]),
        (&json!("live"), &json!(2))
    );
    assert_eq!(
        (&data["user"], &data["flow_invocation_id"]),
        (&json!({"id": "42"}), &json!("ord-7"))
    );
    assert_eq!(
        data["variables"],
        json!({"sku": ["a", "b"], "gift": "no", "total": 12.50, "source": "shop"})
    );
    assert_eq!(data["notificationDetail"], json!({"id": 42, "name": "Ana"}));
    assert_eq!(data["metadata"], json!({"by": "a"}));
    let run =
        "select user_id, flow_invocation_id, mode, version, trigger_id, state from actionflow.runs";
    wait_for_rows(
        stage.sql(),
        run,
        &[&format!("42|ord-7|live|2|{}|completed", hook.id)],
    )
    .await;
    let explained = stage
        .sql()
        .rows("select actionflow.explain_run(id) from actionflow.runs")
        .await;
    let trigger = format!("by a webhook (trigger {})", hook.id);
    assert!(explained.join("\n").contains(&trigger), "{explained:#?}");
}

#[tokio::test]
async fn t20_t23_put_and_post_start_and_a_body_of_the_right_shape_needs_no_mapping() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({})).await;
    let mut ids = Vec::new();
    for method in ["POST", "PUT"] {
        let body = json!({"targetUserIds": ["1", "2"], "variables": {"a": {"b": [1]}}});
        let response = stage.send(&hook, &Sent::json(&body).method(method)).await;
        let data = response.json()["data"].clone();
        assert_eq!(
            (response.status, &data["started"]),
            (202, &json!(2)),
            "{data}"
        );
        ids.push(
            data["flowInvocationId"]
                .as_str()
                .expect("a text")
                .to_owned(),
        );
    }
    let [first, second] = &ids[..] else {
        panic!("two")
    };
    assert_ne!(first, second, "each request without an id is its own");
    assert_eq!(
        stage.runs().await,
        [
            format!("1|{first}"),
            format!("2|{first}"),
            format!("1|{second}"),
            format!("2|{second}")
        ]
    );
    stage.receiver.wait_for("/crm", 4).await;
}

#[tokio::test]
async fn what_is_answered_with_202_is_committed() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    for number in 1..=50_i64 {
        let sent = Sent::json(&json!({"user": number.to_string()}));
        assert_eq!(stage.status(&hook, &sent).await, 202);
        // On another connection than the one that wrote it.
        assert_eq!(stage.run_count().await, number);
    }
    let barrier = Barrier::raise(&stage).await;
    let address = stage.worker.address().to_owned();
    let path = hook.path.clone();
    let sent = Sent::json(&json!({"user": "51"}));
    let answer = tokio::spawn(async move { send(&address, &path, &sent).await });
    barrier.wait_for(1).await;
    assert!(!answer.is_finished(), "answered before it was committed");
    assert_eq!(stage.run_count().await, 50);
    barrier.fall().await;
    assert_eq!(
        answer.await.expect("no panic").expect("an answer").status,
        202
    );
    assert_eq!(stage.run_count().await, 51);
}

#[tokio::test]
async fn t23_a_repeated_invocation_id_starts_only_whom_it_has_not_started() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({})).await;
    let send = async |users: Value, id: &str| {
        let body = json!({"targetUserIds": users, "flowInvocationId": id});
        let response = stage.send(&hook, &Sent::json(&body)).await;
        (response.status, response.json()["data"].clone())
    };
    let data = |started: u8, duplicates: u8| json!({"flowInvocationId": "a", "started": started, "duplicates": duplicates, "ignored": []});
    assert_eq!(send(json!(["1"]), "a").await, (202, data(1, 0)));
    let mut duplicate = data(0, 1);
    duplicate["duplicate"] = json!(true);
    assert_eq!(send(json!("1"), "a").await, (200, duplicate));
    assert_eq!(send(json!(["1", "2"]), "a").await, (202, data(1, 1)));
    assert_eq!(send(json!(["1"]), "b").await.0, 202);
    assert_eq!(stage.runs().await, ["1|a", "2|a", "1|b"]);
    // In the other mode it is another start.
    stage
        .sql()
        .run("select actionflow.add_test_user('1')")
        .await;
    stage.set_mode(&hook, "test").await;
    assert_eq!(send(json!(["1"]), "a").await.0, 202);
    assert_eq!(send(json!(["1"]), "a").await.0, 200);
    stage.receiver.wait_for("/crm", 4).await;
}

/// A request of a library, signed at two moments: first, and when it is repeated.
async fn twice(oracle: Oracle, library: &str, secret: &str, body: &str, id: &str) -> [Sent; 2] {
    let now = unix_seconds(SystemTime::now());
    let jobs = [now - 30, now].map(|time| {
        json!({"library": library, "task": "sign", "secret": secret, "body": body, "time": time, "id": id})
    });
    let signed = oracle.results(&jobs).await;
    [0, 1].map(|index| Sent::new("application/json", body).signed(&signed[index]))
}

#[tokio::test]
async fn a_senders_own_id_is_the_key_when_the_mapping_has_none() {
    let stage = Stage::new().await;
    for (oracle, preset, library, body, id) in [
        (
            Oracle::Python,
            "standard-webhooks",
            "standardwebhooks",
            r#"{"user": "1"}"#,
            "msg_1",
        ),
        (Oracle::Node, "svix", "svix", r#"{"user": "2"}"#, "msg_2"),
        (
            Oracle::Node,
            "github",
            "octokit",
            r#"{"user": "3"}"#,
            "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        ),
        (
            Oracle::Python,
            "stripe",
            "stripe",
            r#"{"user": "4", "id": "evt_4"}"#,
            "evt_4",
        ),
        (
            Oracle::Python,
            "slack",
            "slack",
            r#"{"user": "5", "event_id": "Ev5"}"#,
            "Ev5",
        ),
        (
            Oracle::Python,
            "paddle",
            "paddle",
            r#"{"user": "6", "event_id": "evt_6"}"#,
            "evt_6",
        ),
    ] {
        let signature = json!({"preset": preset, "secret": WHSEC});
        let hook = stage
            .live(&json!({"signature": signature, "mapping": user_mapping()}))
            .await;
        let [first, again] = twice(oracle, library, WHSEC, body, id).await;
        for (status, sent) in [(202, &first), (200, &first), (200, &again)] {
            let response = stage.send(&hook, sent).await;
            assert_eq!(response.status, status, "{preset}: {}", response.text());
            assert_eq!(response.json()["data"]["flowInvocationId"], id, "{preset}");
        }
    }
    assert_eq!(stage.run_count().await, 6);
    // The mapping's word goes over the sender's.
    let mapping =
        json!({"kind": "fields", "targetUserIds": "$.user", "flowInvocationId": "$.order"});
    let signature = json!({"preset": "standard-webhooks", "secret": WHSEC});
    let hook = stage
        .live(&json!({"signature": signature, "mapping": mapping}))
        .await;
    let [sent, _] = twice(
        Oracle::Python,
        "standardwebhooks",
        WHSEC,
        r#"{"user": "7", "order": "o-7"}"#,
        "msg_7",
    )
    .await;
    stage.send(&hook, &sent).await;
    assert_eq!(stage.runs().await.last().map(String::as_str), Some("7|o-7"));
}

/// An id of the sender counts only when the signature vouches for the request.
#[tokio::test]
async fn without_a_signature_no_header_is_a_key() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    let sent = Sent::json(&json!({"user": "1", "id": "evt_1"}))
        .header("webhook-id", "msg_1")
        .header("x-github-delivery", "msg_1")
        .header("idempotency-key", "msg_1");
    for _ in 0..2 {
        assert_eq!(stage.status(&hook, &sent).await, 202);
    }
    assert_eq!(stage.run_count().await, 2);
}

#[tokio::test]
async fn a_request_whose_sender_went_away_starts_once_however_often_it_is_repeated() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({})).await;
    let sent = Sent::json(&json!({"targetUserIds": ["1"], "flowInvocationId": "a"}));
    let barrier = Barrier::raise(&stage).await;
    let mut stream = TcpStream::connect(stage.worker.address())
        .await
        .expect("the worker listens");
    stream
        .write_all(&sent.bytes(&hook.path))
        .await
        .expect("it reads");
    barrier.wait_for(1).await;
    drop(stream);
    barrier.fall().await;
    let count = "select count(*) from actionflow.runs";
    wait_for_rows(stage.sql(), count, &["1"]).await;
    assert_eq!(stage.status(&hook, &sent).await, 200);
    assert_eq!(stage.run_count().await, 1);
}
