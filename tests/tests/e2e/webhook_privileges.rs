//! Each role has its own part in webhooks, and nobody reads a secret: not in a view, a function's answer, an error or a log.

use actionflow_tests::{Cluster, Session};
use serde_json::{Value, json};

use crate::webhook_stage::{Hook, Sent, Stage, user_mapping};

const ROLES: [&str; 4] = ["app", "reader", "worker", "stranger"];

/// Statements, each with the roles that may run it. `$hook` stands for a trigger, `$token` for that of its URL.
const STATEMENTS: &[(&str, &str)] = &[
    (
        "worker",
        "select * from actionflow.receive_webhook('$token', 'POST', '{}', '{}', '127.0.0.1')",
    ),
    ("reader", "select * from actionflow.webhook_rejections"),
    ("reader", "select options from actionflow.triggers"),
    ("", "select * from actionflow.webhook_samples"),
    ("", "select * from actionflow._webhook"),
    ("", "select * from actionflow._webhook_sample"),
    ("", "select * from actionflow._webhook_rejection"),
    (
        "",
        "select * from actionflow.add_webhook_trigger('welcome')",
    ),
    ("", "select actionflow.update_webhook_trigger($hook, '{}')"),
    ("", "select actionflow.rotate_webhook_path($hook)"),
    ("", "select actionflow.capture_webhook_sample($hook)"),
    (
        "",
        "select actionflow.test_mapping($hook, '{\"kind\": \"none\"}')",
    ),
    ("", "select actionflow.set_trigger_mode($hook, 'live')"),
    ("", "select actionflow.verify_signature('{}', '{}', '')"),
    (
        "",
        "select actionflow.map_payload('{\"kind\": \"none\"}', '{}')",
    ),
    (
        "",
        "select actionflow._note_rejection($hook, 401, 'x', null, null, null, 0, null)",
    ),
    (
        "",
        "select actionflow._capture($hook, 'POST', '[]', '', null)",
    ),
    ("", "select actionflow._webhook_options('{}', '{}')"),
    ("", "select actionflow._generate_token()"),
    ("", "select actionflow._disarm_sample($hook)"),
];

fn role(stage: &Stage<'_>, name: &str) -> String {
    format!("{}_{name}", stage.db.name())
}

async fn make_roles(stage: &Stage<'_>) {
    for name in ROLES {
        let role = role(stage, name);
        stage.sql().run(&format!("create role {role} login")).await;
        if name != "stranger" {
            stage
                .sql()
                .run(&format!("select actionflow.grant_{name}('{role}')"))
                .await;
        }
    }
}

async fn session(stage: &Stage<'_>, name: &str) -> Session {
    Session::connect(&stage.db.url_as(&role(stage, name))).await
}

/// Every part of the options that is secret.
fn options() -> Value {
    json!({
        "signature": {"preset": "hubspot-v2", "secrets": ["hush-one", {"secret": "hush-two"}], "url": "https://example.com/hush-url"},
        "handshake": {"kind": "meta", "verify_token": "hush-verify"}, "mapping": user_mapping()
    })
}

/// A trigger with requests of every kind behind it: captured, refused, broken.
async fn lived_in(stage: &Stage<'_>) -> Hook {
    let hook = stage.hook(&options()).await;
    let capture = format!("select actionflow.capture_webhook_sample({})", hook.id);
    stage.sql().run(&capture).await;
    let sent = Sent::json(&json!({"user": "1"}))
        .header("x-hubspot-signature", &"0".repeat(64))
        .header("authorization", "hush-header");
    assert_eq!(stage.status(&hook, &sent).await, 202);
    assert_eq!(stage.status(&hook, &sent).await, 401);
    let ask = Sent::bare("GET", "hub.verify_token=hush-guess&hub.challenge=1");
    assert_eq!(stage.status(&hook, &ask).await, 403);
    let open = stage.live(&json!({"mapping": user_mapping()})).await;
    assert_eq!(stage.status(&open, &sent).await, 202);
    hook
}

#[tokio::test]
async fn each_role_has_its_own_part_in_webhooks() {
    let stage = Stage::new().await;
    let hook = lived_in(&stage).await;
    make_roles(&stage).await;
    let token = hook.path.rsplit('/').next().expect("a token");
    let mut wrong = Vec::new();
    for name in ROLES {
        let session = session(&stage, name).await;
        for (allowed, statement) in STATEMENTS {
            let statement = statement
                .replace("$hook", &hook.id.to_string())
                .replace("$token", token);
            session.run("begin").await;
            let result = session.try_rows(&statement).await;
            session.run("rollback").await;
            let may = allowed.split(' ').any(|allowed| allowed == name);
            match result {
                Ok(_) if may => {}
                Err(error) if !may && error.code == "42501" => {}
                other => wrong.push(format!("{name}: {statement}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn no_role_reads_a_secret_of_a_webhook() {
    let stage = Stage::new().await;
    let hook = lived_in(&stage).await;
    make_roles(&stage).await;
    let relations = "select oid::regclass from pg_class
        where relnamespace = 'actionflow'::regnamespace and relkind in ('r', 'v', 'm', 'p')";
    let relations = stage.sql().rows(relations).await;
    let token = hook.path.rsplit('/').next().expect("a token");
    for name in ROLES {
        let session = session(&stage, name).await;
        let mut readable = String::new();
        for relation in &relations {
            let all = format!("select r::text from {relation} as r");
            readable += &session.try_rows(&all).await.unwrap_or_default().join("\n");
        }
        let explain = "select actionflow.explain_run(id) from actionflow.runs";
        readable += &session
            .try_rows(explain)
            .await
            .unwrap_or_default()
            .join("\n");
        assert!(
            !readable.contains("hush") && !readable.contains(token),
            "{name}: {readable}"
        );
        assert_eq!(
            readable.contains("x-hubspot-signature") || readable.contains("hubspot"),
            name == "reader"
        );
    }
    // Views show none to their owner either.
    let views = relations
        .iter()
        .filter(|name| !name.starts_with("actionflow._"));
    for view in views {
        let shown = stage
            .sql()
            .rows(&format!("select r::text from {view} as r"))
            .await
            .join("\n");
        assert!(
            !shown.contains("hush") && !shown.contains(token),
            "{view}: {shown}"
        );
    }
}

#[tokio::test]
async fn an_error_about_a_configuration_repeats_no_secret() {
    let stage = Stage::new().await;
    let hook = stage.hook(&options()).await;
    let wrong = [
        json!({"signature": {"preset": "slack", "secret": "hush!", "secretEncoding": "base64"}}),
        json!({"signature": {"preset": "slack", "secret": "hush", "secretPrefix": 7}}),
        json!({"signature": {"preset": "svix", "secret": "hush hush"}}),
        json!({"signature": {"preset": "discord", "secret": "hush"}}),
        json!({"signature": {"preset": "sendgrid", "secret": "hush"}}),
        json!({"signature": {"preset": "slack", "secrets": "hush"}}),
        json!({"signature": {"preset": "slack", "secrets": ["a", {"secret": "hush", "notAfter": "hush"}]}}),
        json!({"signature": {"preset": "slack", "secrets": [{"secret": "b", "hush": 1}]}}),
        json!({"signature": {"preset": "slack", "secret": {"hush": "hush"}}}),
        json!({"signature": {"preset": "square", "secret": "hush", "url": "hush not a url"}}),
        json!({"signature": {"preset": "nobody", "secret": "hush"}}),
        json!({"signature": {"preset": "slack", "secret": "hush"}, "allowed_ips": ["x"]}),
        json!({"handshake": {"kind": "slack", "verify_token": "hush"}}),
        json!({"handshake": {"kind": "meta", "verify_token": ["hush"]}}),
    ];
    for options in &wrong {
        for statement in [
            format!("select actionflow.add_webhook_trigger('welcome', $json${options}$json$)"),
            format!(
                "select actionflow.update_webhook_trigger({}, $json${options}$json$)",
                hook.id
            ),
        ] {
            let error = stage.sql().error(&statement).await;
            assert_eq!(error.code, "22023", "{options}: {error:?}");
            let named = format!("{error:?}")
                .replace("unknown key \\\"hush\\\"", "")
                .replace("$.secrets[0].hush", "");
            assert!(!named.contains("hush"), "{options}: {error:?}");
        }
    }
    let kept = format!(
        "select options = $json${}$json$::jsonb from actionflow._webhook where trigger_id = {}",
        options(),
        hook.id
    );
    assert_eq!(
        stage.sql().text(&kept).await,
        "t",
        "what was refused has changed nothing"
    );
}

/// The worker as its own role, with the most talkative log; then something breaks inside.
#[tokio::test]
async fn a_worker_needs_no_more_than_its_role_and_no_log_has_a_secret() {
    let cluster = Cluster::own();
    let stage = Stage::within(&cluster, |worker| worker.flag("--log", "debug")).await;
    make_roles(&stage).await;
    let worker = stage
        .db
        .worker_builder()
        .database_url(stage.db.url_as(&role(&stage, "worker")));
    let worker = worker
        .flag("--log", "debug")
        .expect_in_log("failed to receive a webhook")
        .start()
        .await;
    let mut stage = Stage { worker, ..stage };
    stage.db.expect_in_log("made to fail");
    let hook = lived_in(&stage).await;
    let live = stage.live(&json!({"mapping": user_mapping()})).await;
    stage.sql().run(
        "create function break_it() returns trigger language plpgsql as $$ begin
             if new.user_id like '%hush%' then raise exception 'made to fail'; end if; return new; end $$;
         create trigger break_it before insert on actionflow._delivery for each row execute function break_it()").await;
    let sent = Sent::json(&json!({"user": "hush-user"})).header("authorization", "hush-header");
    let response = stage.send(&live, &sent).await;
    assert_eq!(response.status, 500, "{response:?}");
    assert_eq!(
        response.json(),
        json!({"error": {"code": "internal", "message": "the webhook could not be received"}})
    );
    assert_eq!(
        stage
            .status(&live, &Sent::json(&json!({"user": "2"})))
            .await,
        202
    );
    let (worker, server) = (stage.worker.log(), cluster.log());
    assert!(worker.contains("failed to receive a webhook"), "{worker}");
    for (log, name) in [(&worker, "worker"), (&server, "server")] {
        let mut secrets = vec!["hush-header", "hush-guess"];
        // What the harness itself has written in statements that fail would be there; those that succeed are not.
        secrets.extend(["hush-one", "hush-two", "hush-url", "hush-verify"]);
        for path in [&hook.path, &live.path] {
            secrets.push(path.rsplit('/').next().expect("a token"));
        }
        let found: Vec<_> = secrets
            .into_iter()
            .filter(|secret| log.contains(*secret))
            .collect();
        assert!(found.is_empty(), "the {name}'s log has {found:?}: {log}");
    }
    assert!(!worker.contains("hush"), "{worker}");
}
