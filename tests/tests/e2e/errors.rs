//! Bad input: an error with SQLSTATE, DETAIL and HINT that names what is wrong, and nothing half-done.

use crate::scene::Scene;

/// A statement, the SQLSTATE, and what message and detail together must name.
struct Case(&'static str, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    Case(
        "select actionflow.create_endpoint('e', 'https://example.com', '{\"retries\": 3}')",
        "22023",
        &["retries"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'https://example.com', '{\"timeout_ms\": \"5s\"}')",
        "22023",
        &["timeout_ms"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'https://example.com', '{\"timeout_ms\": -1}')",
        "22023",
        &["timeout_ms"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'https://example.com', '{\"retry_seconds\": [30, \"x\"]}')",
        "22023",
        &["retry_seconds[1]"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'https://example.com', '{\"success\": \"3xx\"}')",
        "22023",
        &["success"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'https://example.com', '{\"headers\": {\"webhook-id\": \"1\"}}')",
        "22023",
        &["webhook-id"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'https://example.com', '{\"headers\": {\"x\": \"a\\r\\nb: c\"}}')",
        "22023",
        &["headers"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'https://example.com', '[]')",
        "22023",
        &["object"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'not a url')",
        "22023",
        &["url"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'ftp://example.com')",
        "22023",
        &["url"],
    ),
    Case(
        "select actionflow.create_endpoint('e', 'https://user:word@example.com')",
        "22023",
        &["url"],
    ),
    Case(
        "select actionflow.create_endpoint('e', '/relative')",
        "22023",
        &["url"],
    ),
    Case(
        "select actionflow.create_endpoint('', 'https://example.com')",
        "22023",
        &["name"],
    ),
    Case(
        "select actionflow.create_endpoint('crm', 'https://example.com')",
        "42710",
        &["\"crm\""],
    ),
    Case(
        "select actionflow.update_endpoint('crm', '{\"url\": \"nowhere\"}')",
        "22023",
        &["url"],
    ),
    Case(
        "select actionflow.update_endpoint('nobody', '{}')",
        "42704",
        &["\"nobody\""],
    ),
    Case(
        "select actionflow.rotate_endpoint_secret('nobody')",
        "42704",
        &["\"nobody\""],
    ),
    Case(
        "select actionflow.create_flow('f', '{\"actions\": [], \"steps\": []}')",
        "22023",
        &["\"steps\""],
    ),
    Case(
        "select actionflow.create_flow('f', '{}')",
        "22023",
        &["\"actions\""],
    ),
    Case(
        "select actionflow.create_flow('f', '{\"actions\": {}}')",
        "22023",
        &["$.actions"],
    ),
    Case(
        "select actionflow.create_flow('f', '{\"actions\": [{\"name\": \"a\", \"type\": \"notify\", \"endpoints\": [\"crm\"], \"url\": 1}]}')",
        "22023",
        &["\"url\"", "$.actions[0]"],
    ),
    Case(
        "select actionflow.create_flow('f', '{\"actions\": [{\"name\": \"a\", \"type\": \"mail\"}]}')",
        "22023",
        &["mail"],
    ),
    Case(
        "select actionflow.create_flow('f', '{\"actions\": [{\"name\": \"a\", \"type\": \"notify\", \"endpoints\": [\"nobody\"]}]}')",
        "42704",
        &["\"nobody\""],
    ),
    Case(
        "select actionflow.create_flow('f', '{\"actions\": [], \"variables\": {\"a\": {\"required\": 1}}}')",
        "22023",
        &["required"],
    ),
    Case(
        "select actionflow.create_flow('welcome', '{\"actions\": []}')",
        "42710",
        &["\"welcome\""],
    ),
    Case(
        "select actionflow.update_flow('nobody', '{\"actions\": []}')",
        "42704",
        &["\"nobody\""],
    ),
    Case(
        "select actionflow.publish_flow('nobody')",
        "42704",
        &["\"nobody\""],
    ),
    Case(
        "select actionflow.archive_flow('nobody')",
        "42704",
        &["\"nobody\""],
    ),
    Case(
        "select actionflow.flow_definition('welcome', 99)",
        "42704",
        &["99"],
    ),
    Case(
        "select actionflow.start_flow('nobody', '{\"targetUserIds\": \"1\"}')",
        "42704",
        &["\"nobody\""],
    ),
    Case(
        "select actionflow.start_flow('welcome', '{\"targetUserIds\": \"1\", \"user\": 1}')",
        "22023",
        &["\"user\""],
    ),
    Case(
        "select actionflow.start_flow('welcome', '{}')",
        "22023",
        &["targetUserIds"],
    ),
    Case(
        "select actionflow.start_flow('welcome', '{\"targetUserIds\": []}')",
        "22023",
        &["targetUserIds"],
    ),
    Case(
        "select actionflow.start_flow('welcome', '{\"targetUserIds\": [{}]}')",
        "22023",
        &["targetUserIds[0]"],
    ),
    Case(
        "select actionflow.start_flow('welcome', '[{\"targetUserIds\": \"1\"}, {\"targetUserIds\": \"2\", \"variables\": 3}]')",
        "22023",
        &["$[1].variables"],
    ),
    Case(
        "select actionflow.start_flow('welcome', '7')",
        "22023",
        &["object"],
    ),
    Case(
        "select actionflow.start_flow('welcome', '{\"targetUserIds\": \"1\"}', 'prod')",
        "22023",
        &["prod"],
    ),
    Case(
        "select actionflow.start_flow('welcome', jsonb_build_object('targetUserIds', '1', 'variables', jsonb_build_object('x', repeat('x', 1100000))))",
        "54000",
        &["1 MiB"],
    ),
    Case(
        "select actionflow.emit_event('purchase', '1', jsonb_build_object('x', repeat('x', 1100000)))",
        "54000",
        &["1 MiB"],
    ),
    Case(
        "select actionflow.emit_event('purchase', '1', '[1]')",
        "22023",
        &["object"],
    ),
    Case(
        "select actionflow.emit_event('purchase', '')",
        "22023",
        &["user"],
    ),
    Case(
        "select actionflow.emit_event('purchase', '1', mode => 'prod')",
        "22023",
        &["prod"],
    ),
    Case(
        "select actionflow.add_event_trigger('nobody', 'purchase')",
        "42704",
        &["\"nobody\""],
    ),
    Case(
        "select actionflow.add_event_trigger('welcome', 'purchase', '{\"when\": 1}')",
        "22023",
        &["\"when\""],
    ),
    Case(
        "select actionflow.set_trigger_mode(0, 'live')",
        "42704",
        &["0"],
    ),
    Case(
        "select actionflow.set_trigger_mode((select min(id) from actionflow.triggers where kind = 'event'), 'on')",
        "22023",
        &["on"],
    ),
    Case("select actionflow.remove_trigger(0)", "42704", &["0"]),
    Case(
        "select actionflow.watch_customers('customers', 'no_such_column')",
        "42703",
        &["no_such_column"],
    ),
    Case(
        "select actionflow.watch_customers('customers', profile => '{email,nope}')",
        "42703",
        &["nope"],
    ),
    Case(
        "select actionflow.watch_customers('actionflow.flows')",
        "42809",
        &["flows"],
    ),
    Case(
        "select actionflow.unwatch_customers('pg_class')",
        "42704",
        &["pg_class"],
    ),
    Case(
        "select actionflow.set_setting('no_such_setting', '1')",
        "42704",
        &["no_such_setting"],
    ),
    Case(
        "select actionflow.set_setting('max_flow_depth', '\"deep\"')",
        "22023",
        &["max_flow_depth"],
    ),
    Case("select actionflow.replay_delivery(0)", "42704", &["0"]),
    Case(
        "select actionflow.replay_dead_letters('nobody')",
        "42704",
        &["\"nobody\""],
    ),
    Case("select actionflow.cancel_run(0)", "42704", &["0"]),
];

const EVERYTHING: &str = "select
    (select count(*) from actionflow.flows), (select count(*) from actionflow.triggers),
    (select count(*) from actionflow.endpoint_health), (select count(*) from actionflow.runs),
    (select count(*) from actionflow.events), (select count(*) from actionflow.deliveries),
    (select jsonb_object_agg(name, value) from actionflow.settings), actionflow.flow_definition('welcome')";

#[tokio::test]
async fn bad_input_is_refused_with_code_detail_and_hint_and_nothing_happens() {
    let scene = Scene::telling_crm_of("purchase").await;
    let before = scene.sql().text(EVERYTHING).await;
    let mut wrong = Vec::new();
    for Case(statement, code, named) in CASES {
        let error = match scene.sql().try_rows(statement).await {
            Ok(rows) => {
                wrong.push(format!("{statement}\nwas accepted: {rows:?}"));
                continue;
            }
            Err(error) => error,
        };
        let said = format!("{} {}", error.message, error.detail).to_lowercase();
        let is_named = named.iter().all(|name| said.contains(&name.to_lowercase()));
        let is_styled = error
            .message
            .starts_with(|first: char| !first.is_uppercase())
            && !error.message.ends_with('.')
            && !error.hint.is_empty();
        if error.code != *code || !is_named || !is_styled {
            wrong.push(format!(
                "{statement}\nexpected {code} that names {named:?}, got {error:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(scene.sql().text(EVERYTHING).await, before);
}

#[tokio::test]
async fn the_place_of_a_mistake_stands_in_the_detail() {
    let scene = Scene::telling_crm_of("purchase").await;
    let definition =
        r#"{"actions": [{"name": "a", "type": "notify", "endpoints": ["crm"], "wait": "yes"}]}"#;
    let error = scene
        .sql()
        .error(&format!(
            "select actionflow.create_flow('f', '{definition}')"
        ))
        .await;
    assert_eq!(error.code, "22023");
    assert!(error.detail.contains("$.actions[0].wait"), "{error:?}");
    assert!(error.detail.ends_with('.'), "{error:?}");
}

#[tokio::test]
async fn an_error_does_not_repeat_a_secret() {
    let scene = Scene::telling_crm_of("purchase").await;
    for statement in [
        "select actionflow.create_endpoint('e', 'https://example.com', '{\"secret\": \"hunter2hunter2\"}')",
        "select actionflow.update_endpoint('crm', '{\"secret\": \"hunter2hunter2\"}')",
        "select actionflow.create_endpoint('e', 'https://me:hunter2hunter2@example.com')",
    ] {
        let error = scene.sql().error(statement).await;
        assert_eq!(error.code, "22023", "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_payload_just_below_the_limit_is_accepted() {
    let scene = Scene::telling_crm_of("purchase").await;
    let start = "select status from actionflow.start_flow('welcome', jsonb_build_object('targetUserIds', '1',
        'variables', jsonb_build_object('x', repeat('x', 1000000))))";
    assert_eq!(scene.sql().text(start).await, "started");
}

#[tokio::test]
async fn an_endpoint_in_use_cannot_be_deleted() {
    let scene = Scene::telling_crm_of("purchase").await;
    let error = scene
        .sql()
        .error("select actionflow.delete_endpoint('crm')")
        .await;
    assert_eq!(error.code, "2BP01", "{error:?}");
    assert!(error.message.contains("\"welcome\""), "{error:?}");
    scene
        .sql()
        .run("select actionflow.archive_flow('welcome'); select actionflow.delete_endpoint('crm')")
        .await;
}
