//! Nothing is lost when a worker, the server or the network goes away in the middle of it.

use std::time::{Duration, Instant};

use actionflow_tests::{
    Answer, Cluster, Database, PATIENCE, Receiver, Session, Worker, eventually,
};

use crate::scene::{CUSTOMERS, Scene, create_endpoint, ids, notify, publish, settle};

const DELIVERIES: usize = 2000;

/// At most this many are in flight at any moment, so that at most so many are sent again after an accident.
const IN_FLIGHT: usize = 200;

/// A database in a cluster of its own, in the middle of its deliveries.
struct Storm<'a> {
    db: Database<'a>,
    receiver: Receiver,
    workers: Vec<Worker>,
    /// How many requests may have been repeated so far.
    repeats: usize,
}

impl<'a> Storm<'a> {
    async fn begin(cluster: &'a Cluster) -> Self {
        let mut db = Database::within(cluster).await;
        // The worker's connections are cut on purpose.
        db.expect_in_log("");
        let receiver = Receiver::new().await;
        receiver.always("/crm", Answer::Slow(200, Duration::from_millis(100)));
        db.sql.run(CUSTOMERS).await;
        let retries = vec!["1"; 50].join(",");
        let options = format!(r#"{{"max_in_flight": {IN_FLIGHT}, "retry_seconds": [{retries}]}}"#);
        create_endpoint(&db.sql, "crm", &receiver.url("/crm"), &options).await;
        publish(&db.sql, "welcome", &notify("tell", &["crm"])).await;
        db.sql
            .run("select actionflow.add_event_trigger('welcome', 'user-created')")
            .await;
        db.sql
            .run(&format!(
                "insert into customers (id) select generate_series(1, {DELIVERIES})"
            ))
            .await;
        let mut storm = Self {
            db,
            receiver,
            workers: Vec::new(),
            repeats: 0,
        };
        storm.add_worker().await;
        storm.add_worker().await;
        storm
    }

    async fn add_worker(&mut self) {
        self.workers
            .push(self.db.worker_builder().expect_in_log("").start().await);
    }

    /// Waits until so many different deliveries have arrived.
    async fn reach(&self, count: usize) {
        eventually(PATIENCE * 4, async || {
            match ids(&self.receiver.requests("/crm")).len() {
                arrived if arrived >= count => Ok(()),
                arrived => Err(format!(
                    "{arrived} of {count} deliveries arrived; {}",
                    states(&self.db.sql).await
                )),
            }
        })
        .await;
    }

    async fn kill_a_worker(&mut self) {
        self.workers.remove(0).kill().await;
        // What the dead worker held, and perhaps more.
        let running = "select count(*) from actionflow.deliveries where state = 'running'";
        let running = self.db.sql.number(running).await;
        self.repeats += usize::try_from(running).expect("a count").min(IN_FLIGHT);
        self.add_worker().await;
    }

    async fn restart_server(&mut self, cluster: &Cluster) {
        cluster.restart_immediately();
        self.repeats += IN_FLIGHT;
        self.db.reconnect().await;
    }

    async fn lose_network(&mut self) {
        self.repeats += self.receiver.in_flight("/crm").min(IN_FLIGHT);
        self.receiver.close().await;
        let failed = "select count(*) from actionflow.deliveries where last_error is not null and state <> 'delivered'";
        eventually(PATIENCE, async || match self.db.sql.number(failed).await {
            0 => Err("no attempt has failed".to_owned()),
            _ => Ok(()),
        })
        .await;
        self.receiver.open().await;
    }
}

async fn states(sql: &Session) -> String {
    sql.rows("select state, count(*) from actionflow.deliveries group by state order by state")
        .await
        .join(", ")
}

#[tokio::test]
async fn nothing_is_lost_and_little_is_repeated_whatever_breaks() {
    let cluster = Cluster::own();
    let mut storm = Storm::begin(&cluster).await;
    storm.reach(200).await;
    storm.kill_a_worker().await;
    storm.reach(500).await;
    storm.kill_a_worker().await;
    storm.reach(800).await;
    storm.restart_server(&cluster).await;
    storm.reach(1100).await;
    storm.lose_network().await;
    storm.reach(1400).await;
    storm.kill_a_worker().await;
    storm.reach(DELIVERIES).await;
    settle(&storm.db.sql).await;

    let requests = storm.receiver.requests("/crm");
    let expected = storm
        .db
        .sql
        .rows("select id from actionflow.deliveries")
        .await
        .into_iter()
        .collect();
    assert_eq!(
        ids(&requests),
        expected,
        "the ledger is not that of the database"
    );
    assert_eq!(expected.len(), DELIVERIES);
    assert_eq!(
        states(&storm.db.sql).await,
        format!("delivered|{DELIVERIES}")
    );
    let repeated = requests.len() - DELIVERIES;
    assert!(
        repeated <= storm.repeats,
        "{repeated} requests were repeated, at most {} were in flight",
        storm.repeats
    );
    for worker in storm.workers {
        let exit = worker.stop().await;
        assert!(exit.status.success(), "{exit:?}");
    }
}

#[tokio::test]
async fn a_promoted_standby_goes_on_where_the_primary_stopped() {
    let primary = Cluster::own();
    let (mut db, receiver) = crate::wakeup::prepare(&primary).await;
    db.expect_in_log("");
    let standby = primary.standby();
    let mut copy = db.on(&standby).await;
    copy.expect_in_log("read-only transaction");
    copy.expect_in_log("during recovery");
    db.sql
        .run("insert into customers (id) select generate_series(1, 50)")
        .await;
    crate::scene::wait_for_rows(&copy.sql, "select count(*) from customers", &["50"]).await;
    // Whatever it says about a database that it cannot write to, it stays.
    let worker = copy
        .worker_builder()
        .expect_in_log("")
        .start_unready()
        .await;
    primary.stop();
    standby.promote();
    worker.wait_until_ready().await;
    settle(&copy.sql).await;
    copy.sql.run("insert into customers (id) values (51)").await;
    receiver.wait_for("/crm", 51).await;
    settle(&copy.sql).await;
    assert_eq!(ids(&receiver.all()).len(), 51);
    assert_eq!(receiver.all().len(), 51);
}

#[tokio::test]
async fn a_dead_workers_delivery_is_taken_over_within_15_seconds() {
    let scene = Scene::with_crm(r#"{"timeout_ms": 60000}"#).await;
    scene.receiver.script("/crm", [Answer::Hang]);
    let worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    scene.receiver.wait_for("/crm", 1).await;
    worker.kill().await;
    let killed = Instant::now();
    let _successor = scene.db.worker().await;
    let requests = scene.receiver.wait_for("/crm", 2).await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(ids(&requests).len(), 1);
    scene.settle().await;
    assert_eq!(
        scene.deliveries().await,
        ["delivered|2|200"],
        "the lost attempt counts"
    );
    assert_eq!(scene.count("delivery_attempts").await, 2);
}

#[tokio::test]
async fn a_request_that_outlasts_its_lease_is_not_sent_again() {
    let scene = Scene::with_crm(r#"{"timeout_ms": 60000}"#).await;
    // The lease is 12 s.
    scene
        .receiver
        .always("/crm", Answer::Slow(200, Duration::from_secs(14)));
    let _workers = (scene.db.worker().await, scene.db.worker().await);
    scene.start("welcome", &["1", "2", "3"]).await;
    scene.settle().await;
    assert_eq!(scene.receiver.all().len(), 3);
    assert_eq!(scene.deliveries().await, ["delivered|1|200"; 3]);
}

#[tokio::test]
async fn a_lost_lease_cannot_complete_renew_or_release_a_delivery() {
    let scene = Scene::with_crm("{}").await;
    scene.start("welcome", &["1"]).await;
    let claim = async |seconds: u32| {
        scene
            .sql()
            .text(&format!(
                "select lease_token from actionflow.claim_deliveries(10, as_of => clock_timestamp() + interval '{seconds} s')
                 where cardinality(ids) = 1"
            ))
            .await
    };
    let complete = async |token: &str, outcome: &str| {
        scene
            .sql()
            .text(&format!(
                "select actionflow.complete_deliveries(array[{token}], array_agg(id), array['{outcome}'], array[0],
                     array[200], array[null], array[now()], array[1], array[null])
                 from actionflow.deliveries"
            ))
            .await
    };
    let lost = claim(0).await;
    let held = claim(13).await;
    assert_ne!(lost, held);
    let before = scene
        .sql()
        .rows("select * from actionflow.deliveries")
        .await;
    for outcome in ["delivered", "retry", "dead", "gone"] {
        assert_eq!(complete(&lost, outcome).await, "{}", "{outcome}");
    }
    for function in ["renew_leases", "release_deliveries"] {
        let call = format!(
            "select actionflow.{function}(array[{lost}], array_agg(id)) from actionflow.deliveries"
        );
        assert_eq!(scene.sql().text(&call).await, "{}", "{function}");
    }
    let sent = format!(
        "select count(*) from actionflow.claimed_deliveries({lost}, array(select id from actionflow.deliveries))"
    );
    assert_eq!(
        scene.sql().number(&sent).await,
        0,
        "a lost lease still reads what to send"
    );
    assert_eq!(
        scene
            .sql()
            .rows("select * from actionflow.deliveries")
            .await,
        before
    );
    assert_ne!(complete(&held, "delivered").await, "{}");
    assert_eq!(
        scene
            .sql()
            .rows("select state from actionflow.deliveries")
            .await,
        ["delivered"]
    );
}

#[tokio::test]
async fn a_released_delivery_can_be_claimed_at_once_and_its_attempt_does_not_count() {
    let scene = Scene::with_crm("{}").await;
    scene.start("welcome", &["1"]).await;
    let claim =
        "select lease_token from actionflow.claim_deliveries(10) where cardinality(ids) = 1";
    let token = scene.sql().text(claim).await;
    assert!(scene.sql().rows(claim).await.is_empty(), "claimed twice");
    let release = "array(select id from actionflow.deliveries)";
    scene
        .sql()
        .run(&format!(
            "select actionflow.release_deliveries(array[{token}], {release})"
        ))
        .await;
    assert_eq!(
        scene
            .sql()
            .rows("select state, attempts from actionflow.deliveries")
            .await,
        ["pending|0"]
    );
    scene.sql().text(claim).await;
}
