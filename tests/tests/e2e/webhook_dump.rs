//! What of webhooks survives a dump and a restore, and a way in without the worker.

use std::time::SystemTime;

use actionflow_tests::{Cluster, Database, Oracle, Session};
use serde_json::{Value, json};

use crate::scene::unix_seconds;
use crate::webhook_stage::{Sent, Stage, send, user_mapping};

async fn signed(library: &str, secret: &str, body: &str) -> Sent {
    let oracle = if library == "octokit" {
        Oracle::Node
    } else {
        Oracle::Python
    };
    let time = unix_seconds(SystemTime::now());
    let job = json!({"library": library, "task": "sign", "secret": secret, "body": body, "time": time, "id": "d-1"});
    Sent::new("application/json", body).signed(&oracle.results(&[job]).await[0])
}

#[tokio::test]
async fn the_urls_of_a_restored_copy_work_with_their_secrets() {
    let stage = Stage::new().await;
    let options = json!({"signature": {"preset": "stripe", "secrets": ["old", "new"]}, "mapping": user_mapping(),
        "allowed_ips": ["127.0.0.0/8"], "handshake": {"kind": "meta", "verify_token": "hush"}});
    let hook = stage.live(&options).await;
    let sampled = stage.hook(&json!({})).await;
    let capture = format!("select actionflow.capture_webhook_sample({})", sampled.id);
    stage.sql().run(&capture).await;
    assert_eq!(
        stage
            .status(&sampled, &Sent::json(&json!({"user": "9"})))
            .await,
        202
    );
    let sent = signed("stripe", "new", r#"{"user": "1", "id": "evt_1"}"#).await;
    assert_eq!(stage.status(&hook, &sent).await, 202);
    let unsigned = Sent::json(&json!({"user": "1"}));
    assert_eq!(stage.status(&hook, &unsigned).await, 401);

    let copy = Database::bare(Cluster::shared()).await;
    stage.db.dump_into(&copy);
    for view in ["webhook_rejections", "webhook_samples", "triggers"] {
        let all = format!("select v::text from actionflow.{view} as v order by 1");
        let original = stage.sql().rows(&all).await;
        assert!(!original.is_empty(), "nothing to compare: {view}");
        assert_eq!(copy.sql.rows(&all).await, original, "{view}");
    }
    let worker = copy.worker().await;
    let status = async |sent: &Sent| {
        send(worker.address(), &hook.path, sent)
            .await
            .expect("an answer")
            .status
    };
    assert_eq!(status(&unsigned).await, 401);
    assert_eq!(
        status(&sent).await,
        200,
        "the copy knows what has been started"
    );
    for (user, secret) in [("2", "old"), ("3", "new")] {
        let body = format!(r#"{{"user": "{user}", "id": "evt_{user}"}}"#);
        assert_eq!(status(&signed("stripe", secret, &body).await).await, 202);
    }
    let asked = Sent::bare("GET", "hub.verify_token=hush&hub.challenge=7");
    assert_eq!(status(&asked).await, 200);
    let users = "select user_id from actionflow.runs order by id";
    assert_eq!(copy.sql.rows(users).await, ["1", "2", "3"]);
    let mapped = format!(
        "select actionflow.test_mapping({}, '{}')",
        sampled.id,
        user_mapping()
    );
    assert_eq!(copy.sql.text(&mapped).await, r#"{"targetUserIds": ["9"]}"#);
    let rotated = format!("select actionflow.rotate_webhook_path({})", hook.id);
    copy.sql.run(&rotated).await;
    assert_eq!(status(&unsigned).await, 404);
    assert_eq!(
        stage.status(&hook, &unsigned).await,
        401,
        "the original is as it was"
    );
}

/// The SQL that docs/http-api.md gives for `PostgREST`, with roles of this test's own.
async fn with_postgrest() -> (Database<'static>, String) {
    let document = include_str!("../../../docs/http-api.md");
    let start = document.find("create schema api;").expect("the example");
    let setup = document[..start]
        .rfind("create role webhook_receiver")
        .expect("its role");
    let end = setup + document[setup..].find("```").expect("its end");
    let db = Database::new().await;
    let anonymous = format!("{}_anon", db.name());
    let script = document[setup..end]
        .replace("webhook_receiver", &format!("{}_receiver", db.name()))
        .replace("web_anon", &anonymous);
    db.sql.run(r#"select actionflow.create_flow('welcome', '{"actions": []}'); select actionflow.publish_flow('welcome')"#).await;
    db.psql(&script);
    (db, anonymous)
}

/// What `PostgREST` does with a request: one transaction, as its anonymous role.
async fn through_postgrest(
    session: &Session,
    role: &str,
    headers: &Value,
    body: &[u8],
) -> (String, String) {
    let body: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    let call = format!(
        "begin; select set_config('request.headers', $json${headers}$json$, true) is null; set local role {role};
         select convert_from(api.webhook('\\x{body}'), 'UTF8');
         select current_setting('response.status'), current_setting('response.headers')::jsonb -> 0 ->> 'Content-Type'; commit"
    );
    let rows = session.rows(&call).await;
    (rows[2].clone(), rows[1].clone())
}

#[tokio::test]
async fn through_postgrest_a_webhook_is_as_through_the_worker() {
    let (db, role) = with_postgrest().await;
    let hook = |options: Value| {
        let add = format!(
            "select trigger_id, path from actionflow.add_webhook_trigger('welcome', $json${options}$json$)"
        );
        let sql = &db.sql;
        async move {
            let row = sql.text(&add).await;
            let (id, path) = row.split_once('|').expect("two columns");
            sql.run(&format!("select actionflow.set_trigger_mode({id}, 'live')"))
                .await;
            path.rsplit('/').next().expect("a token").to_owned()
        }
    };
    let github = hook(
        json!({"signature": {"preset": "github", "secret": "hush"}, "mapping": user_mapping(),
        "allowed_ips": ["203.0.113.0/24"]}),
    )
    .await;
    let dropbox = hook(json!({"signature": {"preset": "dropbox", "secret": "hush"}})).await;
    let sent = signed("octokit", "hush", r#"{ "user": "1", "name": "Zoë" }"#).await;
    // What nginx and PostgREST make of a request.
    let headers = |token: &str, method: &str, query: &str, address: &str| {
        let mut headers = json!({"x-webhook-token": token, "x-webhook-method": method, "x-webhook-query": query,
            "x-webhook-type": "application/json", "x-webhook-address": address,
            "content-type": "application/octet-stream", "accept": "*/*"});
        for (name, value) in sent
            .headers
            .iter()
            .filter(|(name, _)| name != "content-type")
        {
            headers[name.as_str()] = json!(value);
        }
        headers
    };
    let json = "application/json";
    let text = "text/plain; charset=utf-8";
    let mut tampered = sent.body.clone();
    tampered[12] ^= 1;
    let cases: [(&str, Value, &[u8], &str, &str); 8] = [
        (
            "202",
            headers(&github, "POST", "", "203.0.113.9"),
            &sent.body,
            json,
            r#""started": 1"#,
        ),
        (
            "200",
            headers(&github, "PUT", "", "203.0.113.9"),
            &sent.body,
            json,
            r#""duplicate": true"#,
        ),
        (
            "401",
            headers(&github, "POST", "", "203.0.113.9"),
            &tampered,
            json,
            "unauthorized",
        ),
        (
            "403",
            headers(&github, "POST", "", "198.51.100.1"),
            &sent.body,
            json,
            "forbidden",
        ),
        (
            "404",
            headers("nope", "POST", "", "203.0.113.9"),
            &sent.body,
            json,
            "not_found",
        ),
        (
            "405",
            headers(&github, "GET", "", "203.0.113.9"),
            b"",
            json,
            "method_not_allowed",
        ),
        (
            "200",
            headers(&dropbox, "GET", "challenge=ab%2Dc", "203.0.113.9"),
            b"",
            text,
            "ab-c",
        ),
        (
            "422",
            headers(&dropbox, "GET", "", "203.0.113.9"),
            b"",
            json,
            "unprocessable",
        ),
    ];
    for (status, headers, body, content_type, part) in cases {
        let (answer, said) = through_postgrest(&db.sql, &role, &headers, body).await;
        assert_eq!(
            answer,
            format!("{status}|{content_type}"),
            "{headers}: {said}"
        );
        assert!(said.contains(part), "{headers}: {said}");
    }
    let runs = db
        .sql
        .rows("select user_id, flow_invocation_id from actionflow.runs")
        .await;
    assert_eq!(runs, ["1|d-1"]);
    // The role itself can do no more than that.
    db.sql.run(&format!("begin; set local role {role}")).await;
    let direct = "select * from actionflow.receive_webhook('x', 'POST', '{}', '', null)";
    assert_eq!(db.sql.error(direct).await.code, "42501");
    db.sql.run("rollback").await;
}
