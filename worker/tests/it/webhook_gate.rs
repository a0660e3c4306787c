//! How many webhooks may be in the database, and how many of them one URL's.

use crate::ingress::{Connection, Serving, Setup, post, post_to};

#[tokio::test]
async fn webhooks_beyond_the_queue_are_refused_at_once_and_the_others_served() {
    let serving = Serving::start(Setup {
        calls: 1,
        ..Setup::default()
    })
    .await;
    serving.webhooks.hold();
    let mut waiting: Vec<Connection> = Vec::new();
    for _ in 0..7 {
        let mut connection = serving.connect().await;
        connection.send(&post("", "{}")).await;
        waiting.push(connection);
    }
    serving.webhooks.arrived(1).await;
    serving.queued(6).await;
    let refused = serving.ask(&post("", "{}")).await;
    assert_eq!(
        (refused.status, refused.error_code().as_str()),
        (503, "unavailable")
    );
    assert_eq!(refused.header("retry-after"), "1");
    for _ in 0..2 {
        let mut connection = serving.connect().await;
        connection
            .send(&post_to(
                "afwh_ooooooooooooooooooooooooooooooooooooooooooo",
                "",
                "{}",
            ))
            .await;
        waiting.push(connection);
    }
    serving.queued(8).await;
    let refused = serving
        .ask(&post_to(
            "afwh_rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr",
            "",
            "{}",
        ))
        .await;
    assert_eq!(refused.status, 503, "the whole queue is full");
    serving.webhooks.release();
    for mut connection in waiting {
        assert_eq!(connection.answer().await.status, 202);
    }
    serving.queued(0).await;
    assert_eq!(serving.webhooks.received().len(), 9);
}

#[tokio::test]
async fn a_webhook_that_is_stuck_in_the_database_leaves_places_for_the_others() {
    let serving = Serving::start(Setup {
        calls: 4,
        ..Setup::default()
    })
    .await;
    serving.webhooks.hold();
    let mut stuck: Vec<Connection> = Vec::new();
    for _ in 0..27 {
        let mut connection = serving.connect().await;
        connection.send(&post("", "{}")).await;
        stuck.push(connection);
    }
    serving.webhooks.arrived(3).await;
    serving.queued(24).await;
    assert_eq!(serving.ask(&post("", "{}")).await.status, 503);

    let mut other = serving.connect().await;
    other
        .send(&post_to(
            "afwh_ooooooooooooooooooooooooooooooooooooooooooo",
            "",
            "{}",
        ))
        .await;
    serving.webhooks.arrived(4).await;
    let tokens: Vec<String> = serving
        .webhooks
        .received()
        .into_iter()
        .map(|i| i.token)
        .collect();
    assert_eq!(
        tokens,
        [
            "afwh_ttttttttttttttttttttttttttttttttttttttttttt",
            "afwh_ttttttttttttttttttttttttttttttttttttttttttt",
            "afwh_ttttttttttttttttttttttttttttttttttttttttttt",
            "afwh_ooooooooooooooooooooooooooooooooooooooooooo"
        ]
    );
    serving.webhooks.release();
    for mut connection in stuck.into_iter().chain([other]) {
        assert_eq!(connection.answer().await.status, 202);
    }
}
