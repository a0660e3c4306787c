//! The worker as a process: how it starts, stops, reports, and survives the server.

use std::time::{Duration, Instant};

use actionflow_tests::{Answer, Cluster, Database, PATIENCE, Receiver, eventually};

use crate::scene::{CUSTOMERS, Scene, create_endpoint, notify, publish, settle};

#[tokio::test]
async fn a_stopping_worker_finishes_what_it_holds() {
    let scene = Scene::with_crm(r#"{"timeout_ms": 60000}"#).await;
    scene.receiver.always("/crm", Answer::Held(200));
    let worker = scene.db.worker().await;
    scene.start("welcome", &["1", "2", "3"]).await;
    scene.receiver.wait_for("/crm", 3).await;
    worker.ask_to_stop();
    scene.receiver.release(3);
    let exit = worker.stop().await;
    assert!(exit.status.success(), "{exit:?}");
    assert_eq!(scene.deliveries().await, ["delivered|1|200"; 3]);
    assert_eq!(scene.receiver.all().len(), 3);
}

#[tokio::test]
async fn a_stopping_worker_gives_back_what_it_cannot_finish() {
    let scene = Scene::with_crm(r#"{"timeout_ms": 120000}"#).await;
    scene.receiver.script("/crm", [Answer::Hang]);
    let mut worker = scene.db.worker().await;
    worker.expect_in_log("releas");
    scene.start("welcome", &["1"]).await;
    scene.receiver.wait_for("/crm", 1).await;
    let asked = Instant::now();
    let exit = worker.stop().await;
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "it took {:?}, not about 10 s",
        asked.elapsed()
    );
    assert!(exit.status.success(), "{exit:?}");
    assert_eq!(
        scene
            .sql()
            .rows("select state, next_attempt_at <= now() from actionflow.deliveries")
            .await,
        ["pending|t"]
    );
    let _successor = scene.db.worker().await;
    scene.settle().await;
    assert_eq!(
        scene
            .sql()
            .rows("select state from actionflow.deliveries")
            .await,
        ["delivered"]
    );
}

#[tokio::test]
async fn a_worker_refuses_an_extension_that_it_does_not_know() {
    let scene = Scene::with_crm("{}").await;
    scene.start("welcome", &["1"]).await;
    scene
        .sql()
        .run("update pg_extension set extversion = '99.0.0' where extname = 'actionflow'")
        .await;
    let exit = scene.db.worker_builder().run_to_end().await;
    assert_eq!(exit.status.code(), Some(2), "{exit:?}");
    assert!(exit.log.contains("99.0.0"), "{exit:?}");
    assert!(scene.receiver.all().is_empty());
}

#[tokio::test]
async fn a_worker_refuses_a_database_without_the_extension() {
    let db = Database::bare(Cluster::shared()).await;
    let exit = db.worker_builder().run_to_end().await;
    assert_eq!(exit.status.code(), Some(2), "{exit:?}");
    assert!(exit.log.contains("create extension"), "{exit:?}");
}

#[tokio::test]
async fn a_worker_names_every_wrong_setting_at_once() {
    let db = Database::bare(Cluster::shared()).await;
    let exit = db
        .worker_builder()
        .database_url("http://me:secret-password@example.com".to_owned())
        .flag("--concurrency", "none")
        .run_to_end()
        .await;
    assert_eq!(exit.status.code(), Some(2), "{exit:?}");
    assert!(
        exit.log.contains("--concurrency") && exit.log.contains("--database-url"),
        "{exit:?}"
    );
    assert!(!exit.log.contains("secret-password"), "{exit:?}");
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served() {
    let scene = Scene::with_crm(r#"{"retry_seconds": []}"#).await;
    scene
        .receiver
        .script("/crm", [200, 200, 500].map(Answer::Status));
    let worker = scene.worker_amid_deaths().await;
    scene.start("welcome", &["1", "2", "3"]).await;
    scene.settle().await;
    assert_eq!(worker.get("/healthz").await.expect("an answer").0, 200);
    assert_eq!(worker.get("/readyz").await.expect("an answer").0, 200);
    assert_eq!(worker.get("/nothing").await.expect("an answer").0, 404);
    let (status, metrics) = worker.get("/metrics").await.expect("an answer");
    assert_eq!(status, 200);
    let samples: Vec<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("# TYPE") && line.ends_with("histogram")),
        "{metrics}"
    );
    for (outcome, count) in [("delivered", 2.0), ("dead", 1.0)] {
        let sum: f64 = samples
            .iter()
            .filter(|line| line.contains(&format!("\"{outcome}\"")))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        assert!(
            (sum - count).abs() < f64::EPSILON,
            "{outcome}: {sum} instead of {count} in\n{metrics}"
        );
    }
    assert!(
        samples
            .iter()
            .all(|line| line.starts_with("actionflow_") || line.starts_with("process_")),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_worker_goes_on_after_the_server_was_restarted() {
    let cluster = Cluster::own();
    let mut db = Database::within(&cluster).await;
    db.expect_in_log("");
    let receiver = Receiver::new().await;
    db.sql.run(CUSTOMERS).await;
    create_endpoint(&db.sql, "crm", &receiver.url("/crm"), "{}").await;
    publish(&db.sql, "welcome", &notify("tell", &["crm"])).await;
    let mut worker = db.worker().await;
    // A server that goes away is worth a warning; what counts is that the worker comes back.
    worker.expect_in_log("");
    for round in ["1", "2"] {
        let start =
            format!(r#"select actionflow.start_flow('welcome', '{{"targetUserIds": "{round}"}}')"#);
        db.sql.run(&start).await;
        eventually(PATIENCE, async || {
            match receiver
                .all()
                .iter()
                .any(|request| request.user_id() == round)
            {
                true => Ok(()),
                false => Err(format!(
                    "round {round} did not arrive; log:\n{}",
                    worker.log()
                )),
            }
        })
        .await;
        cluster.restart_immediately();
        db.reconnect().await;
    }
    worker.wait_until_ready().await;
    settle(&db.sql).await;
    assert!(worker.stop().await.status.success());
}

#[tokio::test]
async fn a_worker_without_its_server_is_not_ready() {
    let cluster = Cluster::own();
    let db = Database::within(&cluster).await;
    let mut worker = db.worker().await;
    worker.expect_in_log("");
    drop(db);
    cluster.stop();
    eventually(PATIENCE * 2, async || match worker.get("/readyz").await {
        Ok((503, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(
        worker.get("/healthz").await.expect("an answer").0,
        200,
        "it lives, and tries again"
    );
}

#[tokio::test]
async fn two_workers_share_the_work_and_send_nothing_twice() {
    let scene = Scene::with_crm("{}").await;
    let users: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    scene.start("welcome", &users).await;
    let _workers = (scene.db.worker().await, scene.db.worker().await);
    scene.settle().await;
    assert_eq!(scene.receiver.all().len(), 500);
}

#[tokio::test]
async fn a_worker_survives_the_loss_of_its_connections() {
    let mut scene = Scene::with_crm("{}").await;
    scene
        .db
        .expect_in_log("terminating connection due to administrator command");
    let worker = scene
        .db
        .worker_builder()
        .expect_in_log("terminating connection")
        .expect_in_log("connection closed")
        .start()
        .await;
    for user in ["1", "2", "3"] {
        scene
            .sql()
            .run(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()",
            )
            .await;
        scene.start("welcome", &[user]).await;
        scene.settle().await;
    }
    assert_eq!(scene.receiver.all().len(), 3);
    worker.wait_until_ready().await;
}
