//! Each role does what it is for and nothing else, and none reads a secret.

use actionflow_tests::{Cluster, Database, Session, SqlError};

use crate::scene::Scene;

/// Statements, each with the roles that may run it. `$flow`, `$run` and `$dead` stand for things that exist.
const STATEMENTS: &[(&str, &str)] = &[
    (
        "app",
        r#"select * from actionflow.start_flow('welcome', '{"targetUserIds": "9"}')"#,
    ),
    ("app", "select actionflow.emit_event('purchase', '9')"),
    ("app reader", "select * from actionflow.flows"),
    ("reader", "select * from actionflow.triggers"),
    ("reader", "select * from actionflow.runs"),
    ("reader", "select * from actionflow.events"),
    ("reader", "select * from actionflow.deliveries"),
    ("reader", "select * from actionflow.delivery_attempts"),
    ("reader", "select * from actionflow.dead_letters"),
    ("reader", "select * from actionflow.endpoint_health"),
    ("reader", "select * from actionflow.settings"),
    ("reader", "select actionflow.explain_run($run)"),
    ("worker", "select * from actionflow.claim_deliveries(10)"),
    (
        "worker",
        "select * from actionflow.claimed_deliveries(1, '{1}')",
    ),
    (
        "worker",
        "select actionflow.complete_deliveries('{1}', '{1}', '{delivered}', '{0}', '{200}', '{null}', '{now}', '{1}', '{null}')",
    ),
    ("worker", "select actionflow.renew_leases('{1}', '{1}')"),
    (
        "worker",
        "select actionflow.release_deliveries('{1}', '{1}')",
    ),
    (
        "worker",
        "select actionflow.prepare_to_sleep(); select actionflow.wake_up()",
    ),
    ("worker", "select actionflow.maintain()"),
    ("worker", "select * from actionflow.queue_stats()"),
    (
        "",
        "select actionflow.create_endpoint('new', 'https://example.com')",
    ),
    (
        "",
        "select actionflow.update_endpoint('crm', '{\"url\": \"https://example.com\"}')",
    ),
    ("", "select actionflow.rotate_endpoint_secret('crm')"),
    ("", "select actionflow.disable_endpoint('crm')"),
    ("", "select actionflow.enable_endpoint('crm')"),
    ("", "select actionflow.delete_endpoint('crm')"),
    (
        "",
        "select actionflow.create_flow('new', '{\"actions\": []}')",
    ),
    (
        "",
        "select actionflow.update_flow('welcome', '{\"actions\": []}')",
    ),
    ("", "select actionflow.publish_flow('welcome')"),
    ("", "select actionflow.archive_flow('welcome')"),
    ("", "select actionflow.add_event_trigger('welcome', 'x')"),
    ("", "select actionflow.watch_customers('customers')"),
    ("", "select actionflow.unwatch_customers('customers')"),
    ("", "select actionflow.add_test_user('1')"),
    ("", "select actionflow.set_setting('environment', '\"x\"')"),
    ("", "select actionflow.replay_delivery($dead)"),
    ("", "select actionflow.replay_dead_letters()"),
    ("", "select actionflow.cancel_run($run)"),
    ("", "select actionflow.grant_worker(current_user)"),
    ("", "set actionflow.now = '2020-01-01'"),
];

const ROLES: [&str; 4] = ["app", "reader", "worker", "stranger"];

/// Roles belong to the cluster, so each database's have names of their own.
struct Roles<'a> {
    scene: &'a Scene,
}

impl<'a> Roles<'a> {
    async fn new(scene: &'a Scene) -> Self {
        for role in ROLES {
            let name = format!("{}_{role}", scene.db.name());
            scene.sql().run(&format!("create role {name} login")).await;
            if role != "stranger" {
                scene
                    .sql()
                    .run(&format!("select actionflow.grant_{role}('{name}')"))
                    .await;
            }
        }
        Self { scene }
    }

    fn name(&self, role: &str) -> String {
        format!("{}_{role}", self.scene.db.name())
    }

    /// Runs a statement as `role`, and takes back what it did.
    async fn attempt(&self, role: &str, statement: &str) -> Result<Vec<String>, SqlError> {
        let sql = self.scene.sql();
        sql.run(&format!("begin; set local role {}", self.name(role)))
            .await;
        let result = sql.try_rows(statement).await;
        sql.run("rollback").await;
        result
    }
}

/// A database with history of every kind; returns the endpoint's secret.
async fn lived_in() -> (Scene, String) {
    let scene = Scene::new().await;
    let secret = scene
        .endpoint(
            "crm",
            r#"{"retry_seconds": [], "headers": {"authorization": "header-secret"}}"#,
        )
        .await;
    scene.flow("welcome", &["crm"]).await;
    scene.trigger("welcome", "user-created").await;
    scene
        .receiver
        .script("/crm", [500, 200].map(actionflow_tests::Answer::Status));
    let worker = scene.worker_amid_deaths().await;
    scene
        .sql()
        .run("insert into customers (id) values (1), (2)")
        .await;
    scene.settle().await;
    worker.stop().await;
    scene
        .sql()
        .run("insert into customers (id) values (3)")
        .await;
    (scene, secret)
}

#[tokio::test]
async fn each_role_can_do_its_work_and_nothing_else() {
    let (scene, _) = lived_in().await;
    let roles = Roles::new(&scene).await;
    let run = scene
        .sql()
        .text("select min(id) from actionflow.runs")
        .await;
    let dead = scene
        .sql()
        .text("select id from actionflow.dead_letters")
        .await;
    let mut wrong = Vec::new();
    for (allowed, statement) in STATEMENTS {
        let statement = statement.replace("$run", &run).replace("$dead", &dead);
        for role in ROLES {
            let result = roles.attempt(role, &statement).await;
            let may = allowed.split(' ').any(|allowed| allowed == role);
            match result {
                Ok(_) if may => {}
                Err(error) if !may && error.code == "42501" => {}
                other => wrong.push(format!("{role}: {statement}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn no_role_reads_a_secret_from_any_table_or_view() {
    let (scene, secret) = lived_in().await;
    let roles = Roles::new(&scene).await;
    let relations = scene
        .sql()
        .rows("select oid::regclass from pg_class where relnamespace = 'actionflow'::regnamespace and relkind in ('r', 'v', 'm', 'p')")
        .await;
    let mut readable = 0;
    for role in ROLES {
        for relation in &relations {
            if let Ok(rows) = roles
                .attempt(role, &format!("select r::text from {relation} as r"))
                .await
            {
                readable += rows.len();
                let shown = rows
                    .iter()
                    .find(|row| row.contains(&secret) || row.contains("header-secret"));
                assert_eq!(shown, None, "{role} reads a secret from {relation}");
            }
        }
    }
    assert!(readable > 0, "the roles read nothing at all");
}

#[tokio::test]
async fn only_the_worker_gets_secrets_and_only_with_what_it_claimed() {
    let (scene, secret) = lived_in().await;
    let roles = Roles::new(&scene).await;
    let claimed = "select d::text from actionflow.claim_deliveries(10) as c, actionflow.claimed_deliveries(c.lease_token, c.ids) as d";
    let rows = roles
        .attempt("worker", claimed)
        .await
        .expect("the worker may claim");
    // Both functions in one statement see the state before it, so the claim is its own statement here.
    assert!(rows.iter().all(|row| row.contains(&secret)), "{rows:?}");
    let sql = worker_session(&scene, &roles).await;
    let token = sql
        .text("select lease_token from actionflow.claim_deliveries(10)")
        .await;
    let id = scene
        .sql()
        .text("select id from actionflow.deliveries where state = 'running'")
        .await;
    let row = sql
        .text(&format!(
            "select d::text from actionflow.claimed_deliveries({token}, '{{{id}}}') as d"
        ))
        .await;
    assert!(row.contains(&secret));
    let guessed = sql
        .rows(&format!(
            "select d::text from actionflow.claimed_deliveries({token} + 1, '{{{id}}}') as d"
        ))
        .await;
    assert!(guessed.is_empty(), "a wrong token reads a delivery");
}

async fn worker_session(scene: &Scene, roles: &Roles<'_>) -> Session {
    Session::connect(&scene.db.url_as(&roles.name("worker"))).await
}

#[tokio::test]
async fn whoever_may_write_customers_starts_flows_without_any_right_on_actionflow() {
    let (scene, _) = lived_in().await;
    let roles = Roles::new(&scene).await;
    scene
        .sql()
        .run(&format!(
            "grant select, insert, update, delete, truncate on customers to {}",
            roles.name("stranger")
        ))
        .await;
    let stranger = Session::connect(&scene.db.url_as(&roles.name("stranger"))).await;
    stranger.run("insert into customers (id) values (77); update customers set name = 'x'; delete from customers where id = 1").await;
    assert_eq!(
        scene
            .sql()
            .number("select count(*) from actionflow.deliveries where user_id = '77'")
            .await,
        1
    );
    stranger.run("truncate customers").await;
}

#[tokio::test]
async fn a_worker_needs_no_more_than_its_role() {
    let (scene, _) = lived_in().await;
    let roles = Roles::new(&scene).await;
    let url = scene.db.url_as(&roles.name("worker"));
    let _worker = scene.db.worker_builder().database_url(url).start().await;
    scene.settle().await;
    scene
        .sql()
        .run("insert into customers (id) values (4)")
        .await;
    scene.settle().await;
    assert_eq!(
        scene.sql().rows("select user_id from actionflow.deliveries where state = 'delivered' order by user_id").await.last().map(String::as_str),
        Some("4")
    );
}

#[tokio::test]
async fn a_writer_who_cannot_even_read_the_customers_starts_flows() {
    let (scene, _) = lived_in().await;
    let roles = Roles::new(&scene).await;
    let stranger = roles.name("stranger");
    scene
        .sql()
        .run(&format!("grant insert on customers to {stranger}"))
        .await;
    scene
        .sql()
        .run(&format!(
            "alter table customers enable row level security;
             create policy write_only on customers for insert to {stranger} with check (true)"
        ))
        .await;
    let session = Session::connect(&scene.db.url_as(&stranger)).await;
    session.run("insert into customers (id) values (88)").await;
    assert_eq!(
        scene
            .sql()
            .number("select count(*) from actionflow.deliveries where user_id = '88'")
            .await,
        1
    );
}

// Functions that lie there already would be called in the place of the extension's own.
#[tokio::test]
async fn a_schema_that_others_have_prepared_is_not_taken() {
    let db = Database::bare(Cluster::shared()).await;
    let (name, install) = (db.name(), "create extension actionflow");
    db.sql
        .run(&format!(
            "create role {name}_mallory; create schema actionflow authorization {name}_mallory"
        ))
        .await;
    assert_eq!(db.sql.error(install).await.code, "42P06");
    db.sql
        .run(&format!(
            "alter schema actionflow owner to current_user; grant create on schema actionflow to {name}_mallory"
        ))
        .await;
    assert_eq!(db.sql.error(install).await.code, "42P06");
    db.sql
        .run(&format!(
            "revoke all on schema actionflow from {name}_mallory;
             create function actionflow.maintain(int) returns int language sql as 'select 1'"
        ))
        .await;
    assert_eq!(db.sql.error(install).await.code, "42P06");
    db.sql
        .run(&format!(
            "drop function actionflow.maintain(int); {install}; drop role {name}_mallory"
        ))
        .await;
}
