//! Where a request may not go: the target of a redirect, and addresses that are not public.

use actionflow_tests::{Answer, Receiver};

use crate::delivery::with_crm;
use crate::scene::create_endpoint;

#[tokio::test]
async fn a_redirect_is_a_failure_and_its_target_is_never_visited() {
    let (scene, _) = with_crm(r#"{"retry_seconds": [0], "success": "2xx"}"#).await;
    let elsewhere = Receiver::new().await;
    scene.receiver.script(
        "/crm",
        [
            Answer::with_header(302, "location", &elsewhere.url("/stolen")),
            Answer::with_header(307, "location", &scene.receiver.url("/moved")),
        ],
    );
    let _worker = scene.worker_amid_deaths().await;
    scene.start("welcome", &["1"]).await;
    scene.settle().await;
    assert_eq!(scene.deliveries().await, ["dead|2|307"]);
    assert!(elsewhere.all().is_empty(), "the redirect was followed");
    assert!(
        scene.receiver.requests("/moved").is_empty(),
        "the redirect was followed"
    );
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let (scene, _) = with_crm(r#"{"retry_seconds": []}"#).await;
    let port = scene.receiver.port();
    let hosts = [
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "169.254.169.254",
        "2130706433",
        "10.0.0.1",
    ];
    for (number, host) in hosts.iter().enumerate() {
        let name = format!("host{number}");
        create_endpoint(
            scene.sql(),
            &name,
            &format!("http://{host}:{port}/"),
            r#"{"retry_seconds": []}"#,
        )
        .await;
        scene.flow(&name, &[&name]).await;
        scene.start(&name, &["1"]).await;
    }
    scene.start("welcome", &["1"]).await;
    let worker = scene
        .db
        .worker_builder()
        .refusing_private_addresses()
        .expect_in_log(" is dead after ")
        .start()
        .await;
    scene.settle().await;
    let results =
        "select endpoint, state, attempts, last_status from actionflow.deliveries order by id";
    let expected: Vec<_> = (0..hosts.len())
        .map(|n| format!("host{n}|dead|1|"))
        .chain(["crm|dead|1|".to_owned()])
        .collect();
    assert_eq!(scene.sql().rows(results).await, expected);
    let errors = scene
        .sql()
        .rows("select distinct last_error from actionflow.deliveries")
        .await;
    assert!(
        errors.iter().all(|error| error.contains("address")),
        "{errors:?}"
    );
    assert!(
        scene.receiver.all().is_empty(),
        "a private address was dialled"
    );

    drop(worker);
    let _worker = scene.db.worker().await;
    scene
        .sql()
        .run("select actionflow.replay_dead_letters('crm')")
        .await;
    scene.receiver.wait_for_one("/crm").await;
}
