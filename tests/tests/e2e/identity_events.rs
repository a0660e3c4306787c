//! N5 to N9: what messages about identity events say, and to whom the link of an e-mail is told.

use actionflow_tests::{Answer, Cluster, Session, Worker};
use serde_json::{Value, json};

use crate::asking::{data, emission, emit, enrich, flow_on, tell, tell_and_wait};
use crate::scene::{Scene, wait_for_rows};

const EMAIL_EVENTS: [&str; 4] = [
    "pre-registration",
    "registration",
    "forgot-password",
    "resend-verification",
];

const ANA: &str =
    "insert into customers (id, email, name, plan) values (42, 'ana@example.com', 'Ana', 'pro')";

/// A flow on each of these events that tells the endpoint `crm`.
async fn telling_of(events: &[&str]) -> (Scene, Worker) {
    let scene = Scene::new().await;
    scene.endpoint("crm", "{}").await;
    for event in events {
        flow_on(&scene, event, event, json!([tell("crm")])).await;
    }
    let worker = scene.db.worker().await;
    (scene, worker)
}

/// The message without what differs from run to run.
fn comparable(mut message: Value) -> Value {
    message["timestamp"].take();
    for key in ["run_id", "flow_invocation_id"] {
        message["data"][key].take();
    }
    message["data"]["event"]["id"].take();
    message
}

/// N7.
#[tokio::test]
async fn user_data_events_carry_the_profile_however_they_come() {
    let events = [
        "user-created",
        "user-updated",
        "user-deleted",
        "user-revoked",
    ];
    let (scene, _worker) = telling_of(&events).await;
    scene
        .sql()
        .run(
            "select actionflow.unwatch_customers('customers');
             select actionflow.watch_customers('customers', revoked_when => 'is_revoked')",
        )
        .await;
    let profile = json!({"id": "42", "email": "ana@example.com", "name": "Ana"});
    let mut told = 0;
    for (event, change) in [
        ("user-created", ANA),
        ("user-updated", "update customers set plan = 'free'"),
        (
            "user-created",
            "select actionflow.emit_event('user-created', '42')",
        ),
        (
            "user-updated",
            "select actionflow.emit_event('user-updated', '42')",
        ),
        (
            "user-revoked",
            "select actionflow.emit_event('user-revoked', '42')",
        ),
        (
            "user-deleted",
            "select actionflow.emit_event('user-deleted', '42')",
        ),
        ("user-deleted", "delete from customers"),
    ] {
        scene.sql().run(change).await;
        told += 1;
        let message = scene.receiver.wait_for("/crm", told).await[told - 1].json();
        assert_eq!(message["type"], event, "{change}");
        assert_eq!(message["data"]["user"], profile, "{change}");
        scene.settle().await;
    }
}

#[tokio::test]
async fn a_row_and_a_call_make_the_same_message() {
    let (scene, _worker) = telling_of(&["user-created"]).await;
    scene.sql().run(ANA).await;
    scene.receiver.wait_for("/crm", 1).await;
    emit(scene.sql(), "user-created", "42", json!({})).await;
    let messages = scene.receiver.wait_for("/crm", 2).await;
    assert_eq!(
        comparable(messages[0].json()),
        comparable(messages[1].json())
    );
    scene.settle().await;
    let runs = "select count(distinct (flow, version, mode, user_id, state, trigger_id)), count(*) from actionflow.runs";
    assert_eq!(scene.sql().text(runs).await, "1|2");
}

/// N8.
#[tokio::test]
async fn transactional_email_events_carry_id_email_and_link() {
    let (scene, _worker) = telling_of(&EMAIL_EVENTS).await;
    scene.sql().run(ANA).await;
    for (count, event) in EMAIL_EVENTS.into_iter().enumerate() {
        let properties =
            json!({"verification_url": "https://id.example.com/v?t=1", "locale": "en"});
        emit(scene.sql(), event, "42", properties.clone()).await;
        let message = scene.receiver.wait_for("/crm", count + 1).await[count].json();
        assert_eq!(message["type"], event);
        let user = json!({"id": "42", "email": "ana@example.com"});
        assert_eq!(message["data"]["user"], user, "{event}");
        assert_eq!(
            message["data"]["event"]["properties"], properties,
            "{event}"
        );
    }
    let link = json!({"verification_url": "http://localhost:8080/verify"});
    emit(scene.sql(), "registration", "not yet there", link).await;
    let message = scene.receiver.wait_for("/crm", 5).await[4].json();
    assert_eq!(message["data"]["user"], json!({"id": "not yet there"}));
    scene.settle().await;
}

/// N8.
#[tokio::test]
async fn a_transactional_email_event_needs_a_link_that_a_browser_can_follow() {
    let (scene, _worker) = telling_of(&EMAIL_EVENTS).await;
    let long = format!("https://example.com/{}", "x".repeat(2048));
    let unusable = [
        json!({}),
        json!({"verification_url": null}),
        json!({"verification_url": 7}),
        json!({"verification_url": ""}),
        json!({"verification_url": "/verify?t=hunter2"}),
        json!({"verification_url": "example.com/hunter2"}),
        json!({"verification_url": "javascript:alert('hunter2')"}),
        json!({"verification_url": "ftp://example.com/hunter2"}),
        json!({"verification_url": "data:text/html,hunter2"}),
        json!({"verification_url": ["https://example.com/hunter2"]}),
        json!({"verification_url": "https://"}),
        json!({"verification_url": long}),
        json!({"verificationUrl": "https://example.com/hunter2"}),
    ];
    for event in EMAIL_EVENTS {
        for properties in &unusable {
            for mode in ["live", "test"] {
                let statement = format!(
                    "select actionflow.emit_event('{event}', '42', $json${properties}$json$, '{mode}')"
                );
                let error = scene.sql().error(&statement).await;
                assert_eq!(error.code, "22023", "{properties}: {error:?}");
                assert_eq!(
                    error.message,
                    format!("event \"{event}\" needs \"verification_url\" in its properties")
                );
                assert!(error.hint.contains("http"), "{error:?}");
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
            }
        }
    }
    let nothing =
        "select (select count(*) from actionflow.events), (select count(*) from actionflow.runs)";
    assert_eq!(scene.sql().text(nothing).await, "0|0");
}

/// A flow on `forgot-password` that asks before and after it tells an endpoint that repeats what it is told; `$token` of
/// the link, which nobody but that endpoint may see.
struct Secretive {
    scene: Scene,
    worker: Worker,
    token: String,
}

async fn secretive(echo_status: u16) -> Secretive {
    let scene = Scene::new().await;
    for name in ["risk", "more"] {
        scene.endpoint(name, "{}").await;
        let echo = |request: &actionflow_tests::Request| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            Answer::json(&json!({"data": {"asked": body}, "reason": body}))
        };
        scene.receiver.always(&format!("/{name}"), Answer::By(echo));
    }
    scene.endpoint("mailer", r#"{"retry_seconds": [0]}"#).await;
    let failing = |request: &actionflow_tests::Request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        Answer::Full(500, Vec::new(), body)
    };
    let echoing = |request: &actionflow_tests::Request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        Answer::Full(200, Vec::new(), body)
    };
    scene.receiver.always("/mailer", Answer::By(failing));
    if echo_status == 200 {
        scene.receiver.script("/mailer", [Answer::By(failing)]);
        scene.receiver.always("/mailer", Answer::By(echoing));
    }
    scene.sql().run(ANA).await;
    scene
        .sql()
        .run("select actionflow.set_setting('record_all_events', 'true')")
        .await;
    let actions = json!([
        enrich("risk", json!({})),
        tell_and_wait("mailer"),
        enrich("more", json!({}))
    ]);
    flow_on(&scene, "reset", "forgot-password", actions).await;
    let worker = scene.worker_amid_deaths().await;
    let token = format!("token-{}-{}", scene.db.name(), std::process::id());
    Secretive {
        scene,
        worker,
        token,
    }
}

impl Secretive {
    async fn forget_password(&self) -> Value {
        let link = json!({"verification_url": format!("https://id.example.com/reset?t={}", self.token), "ip": "a"});
        emit(self.scene.sql(), "forgot-password", "42", link).await
    }

    /// What these eyes see in any relation of the schema, and in what explains a run.
    async fn check_what_is_seen(&self, eyes: &Session, relations: &str) {
        let relations = self
            .scene
            .sql()
            .rows(&format!(
                "select oid::regclass from pg_class where relnamespace = 'actionflow'::regnamespace and {relations}"
            ))
            .await;
        let mut seen = 0;
        for relation in relations {
            let rows = eyes
                .try_rows(&format!("select r::text from {relation} as r"))
                .await
                .unwrap_or_default();
            seen += rows.len();
            let leak = rows.iter().find(|row| row.contains(&self.token));
            assert_eq!(leak, None, "the link is in {relation}");
        }
        assert!(seen > 10, "nothing is seen at all");
        for run in self
            .scene
            .sql()
            .rows("select id from actionflow.runs")
            .await
        {
            let lines = eyes
                .rows(&format!("select actionflow.explain_run({run})"))
                .await;
            assert!(!lines.join("\n").contains(&self.token), "{lines:#?}");
            assert!(lines.join("\n").contains("forgot-password"), "{lines:#?}");
        }
    }
}

/// N8, N9.
#[tokio::test]
async fn the_link_is_seen_by_the_endpoint_that_is_told_and_by_nobody_else() {
    for (status, run) in [(200, "completed"), (500, "failed")] {
        let stage = secretive(status).await;
        let answer = stage.forget_password().await;
        let scene = &stage.scene;
        assert!(!answer.to_string().contains(&stage.token), "{answer}");
        let told = scene.receiver.wait_for("/mailer", 2).await;
        assert!(told.iter().all(|request| {
            let link = request.json()["data"]["event"]["properties"]["verification_url"].clone();
            link.as_str()
                .is_some_and(|link| link.contains(&stage.token))
        }));
        wait_for_rows(scene.sql(), "select state from actionflow.runs", &[run]).await;
        scene.settle().await;
        let asked = [
            scene.receiver.requests("/risk"),
            scene.receiver.requests("/more"),
        ]
        .concat();
        assert_eq!(asked.len(), if status == 200 { 2 } else { 1 });
        for question in asked {
            let body = String::from_utf8_lossy(&question.body);
            assert!(!body.contains(&stage.token), "{body}");
            assert_eq!(
                question.json()["data"]["event"]["properties"],
                json!({"ip": "a"})
            );
            assert_eq!(question.json()["data"]["user"], json!({"id": "42"}));
        }
        let properties = "select properties from actionflow.events where name = 'forgot-password'";
        assert_eq!(scene.sql().json(properties).await, json!({"ip": "a"}));
        let attempts = "select a.status, a.response_prefix is null from actionflow.delivery_attempts as a
            join actionflow.deliveries as d on d.id = a.delivery_id where d.endpoint = 'mailer' order by a.attempt";
        let second = format!("{status}|t");
        assert_eq!(scene.sql().rows(attempts).await, ["500|t", second.as_str()]);
        let kept = format!(
            "select count(*) from actionflow._event as e where e::text like '%{}%'",
            stage.token
        );
        assert_eq!(
            scene.sql().number(&kept).await,
            1,
            "where it would be found if it could be read"
        );
        stage
            .check_what_is_seen(scene.sql(), "relkind = 'v' and relname not like '\\_%'")
            .await;
        let reader = format!("{}_reader", scene.db.name());
        scene
            .sql()
            .run(&format!(
                "create role {reader} login; select actionflow.grant_reader('{reader}')"
            ))
            .await;
        let eyes = Session::connect(&scene.db.url_as(&reader)).await;
        stage
            .check_what_is_seen(&eyes, "relkind in ('r', 'p', 'v', 'm')")
            .await;
        assert!(
            !stage.worker.log().contains(&stage.token),
            "{}",
            stage.worker.log()
        );
    }
}

#[tokio::test]
async fn an_error_about_such_an_event_does_not_write_the_link_to_the_servers_log() {
    let stage = secretive(200).await;
    let scene = &stage.scene;
    scene.receiver.always("/risk", Answer::Status(500));
    // The statement itself is the caller's to keep out of the log.
    scene
        .sql()
        .run(&format!(
            "create function forget() returns jsonb language sql return actionflow.emit_event(
                 'forgot-password', '42', jsonb_build_object('verification_url', current_setting('test.link')));
             set test.link = 'https://id.example.com/{}'",
            stage.token
        ))
        .await;
    let error = scene.sql().error("select forget()").await;
    assert_eq!(error.code, "38000", "{error:?}");
    scene
        .sql()
        .run(&format!("set test.link = 'file:///{}'", stage.token))
        .await;
    let error = scene.sql().error("select forget()").await;
    assert_eq!(error.code, "22023", "{error:?}");
    let log = Cluster::shared().log();
    assert!(
        log.contains("failed: status"),
        "the errors are not in the log that was read"
    );
    assert!(!log.contains(&stage.token));
}

#[tokio::test]
async fn a_property_of_that_name_is_nothing_special_elsewhere() {
    let (scene, _worker) = telling_of(&["purchase"]).await;
    let properties = json!({"verification_url": "any text"});
    emit(scene.sql(), "purchase", "42", properties.clone()).await;
    let view = "select properties from actionflow.events where name = 'purchase'";
    assert_eq!(scene.sql().json(view).await, properties);
    scene.endpoint("risk", "{}").await;
    flow_on(&scene, "ask", "login", json!([enrich("risk", json!({}))])).await;
    scene.receiver.always("/risk", data(json!({})));
    scene.sql().run(&emission("login", "42", &properties)).await;
    let asked = scene.receiver.wait_for_one("/risk").await.json();
    assert_eq!(asked["data"]["event"]["properties"], properties);
    scene.settle().await;
}
