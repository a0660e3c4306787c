//! The harness itself: what the other tests rely on.

use std::time::Duration;

use actionflow_tests::{Answer, Receiver, eventually, get};

#[tokio::test]
async fn a_receiver_answers_its_script_and_then_its_default() {
    let receiver = Receiver::new().await;
    receiver.script(
        "/a",
        [
            Answer::Status(503),
            Answer::with_header(302, "location", "/b"),
        ],
    );
    receiver.always("/a", Answer::Status(204));
    let address = receiver.url("").replace("http://", "");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(get(&address, "/a").await.expect("the receiver answers").0);
    }
    assert_eq!(statuses, [503, 302, 204]);
    assert_eq!(receiver.requests("/a").len(), 3);
    assert!(receiver.requests("/b").is_empty());
}

#[tokio::test]
async fn a_closed_receiver_refuses_and_opens_again_on_its_port() {
    let mut receiver = Receiver::new().await;
    receiver.always("/", Answer::Hang);
    let address = receiver.url("").replace("http://", "");
    let hanging = tokio::spawn({
        let address = address.clone();
        async move { get(&address, "/").await }
    });
    receiver.wait_for("/", 1).await;
    receiver.close().await;
    assert!(
        hanging.await.expect("the request ends").is_err(),
        "an open request was answered"
    );
    assert!(
        get(&address, "/other").await.is_err(),
        "a closed receiver was reached"
    );
    receiver.open().await;
    assert_eq!(
        get(&address, "/other")
            .await
            .expect("the receiver answers")
            .0,
        200
    );
}

#[tokio::test]
#[should_panic(expected = "last state: still 7")]
async fn waiting_in_vain_prints_the_last_state() {
    eventually(Duration::from_millis(50), async || {
        Err::<(), _>("still 7".to_owned())
    })
    .await;
}
