//! What senders that are slow, large or many can take, and how the server ends.

use std::time::Duration;

use actionflow_worker::ingress::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ingress::{Connection, Serving, Setup, post};

const MIB: usize = 1024 * 1024;

/// So short that a test need not wait.
const SHORT: Duration = Duration::from_millis(20);

async fn with(limits: Limits) -> Serving {
    Serving::start(Setup {
        limits,
        ..Setup::default()
    })
    .await
}

fn chunked(body: &str) -> Vec<u8> {
    let mut request =
        b"POST /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for piece in body.as_bytes().chunks(100_000) {
        request.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        request.extend(piece);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

#[tokio::test]
async fn a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent() {
    let serving = with(Limits::default()).await;
    for expectation in ["", "expect: 100-continue\r\n"] {
        let head = format!(
            "POST /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\n{expectation}content-length: {}\r\n\r\n",
            MIB + 1
        );
        let answer = serving.ask(head.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (413, "payload_too_large")
        );
    }
    assert_eq!(serving.webhooks.received().len(), 0);
}

#[tokio::test]
async fn who_sends_too_large_a_body_all_the_same_can_read_the_refusal() {
    let serving = with(Limits::default()).await;
    let body = "x".repeat(5 * MIB);
    for request in [post("", &body), chunked(&body)] {
        let mut connection = serving.connect().await;
        connection.send(&request).await;
        assert_eq!(connection.answer().await.status, 413);
        connection.send(&post("", "{}")).await;
        assert_eq!(
            connection.answer().await.status,
            202,
            "the connection goes on"
        );
    }
    assert_eq!(serving.webhooks.received().len(), 2);
}

#[tokio::test]
async fn the_largest_body_is_received_and_a_byte_more_is_not() {
    let serving = with(Limits::default()).await;
    let (largest, more) = ("x".repeat(MIB), "x".repeat(MIB + 1));
    for (request, status) in [
        (post("", &largest), 202),
        (chunked(&largest), 202),
        (post("", &more), 413),
        (chunked(&more), 413),
    ] {
        assert_eq!(serving.ask(&request).await.status, status);
    }
    let received = serving.webhooks.received();
    let is_whole = |body: &[u8]| body == largest.as_bytes();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|inbound| is_whole(&inbound.body)));
}

#[tokio::test]
async fn large_bodies_share_a_bounded_memory_and_small_ones_do_not_wait_for_it() {
    let serving = Serving::start(Setup {
        calls: 200,
        ..Setup::default()
    })
    .await;
    serving.webhooks.hold();
    let (small, large) = (post("", "{}"), post("", &"x".repeat(64 * 1024 + 1)));
    let mut holding: Vec<Connection> = Vec::new();
    for _ in 0..64 {
        let mut connection = serving.connect().await;
        connection.send(&large).await;
        holding.push(connection);
    }
    serving.webhooks.arrived(64).await;
    let refused = serving.ask(&large).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    let mut connection = serving.connect().await;
    connection.send(&small).await;
    serving.webhooks.arrived(65).await;
    serving.webhooks.release();
    for mut connection in holding {
        assert_eq!(connection.answer().await.status, 202);
    }
    assert_eq!(serving.ask(&large).await.status, 202);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_refused_and_its_connection_closed() {
    let serving = with(Limits {
        body: SHORT,
        ..Limits::default()
    })
    .await;
    let mut connection = serving.connect().await;
    connection
        .send(b"POST /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
        .await;
    let answer = connection.answer().await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (408, "timeout")
    );
    connection.closed().await;
    assert_eq!(serving.webhooks.received().len(), 0);
}

#[tokio::test]
async fn a_head_that_does_not_arrive_in_time_ends_the_connection() {
    let serving = with(Limits {
        head: SHORT,
        ..Limits::default()
    })
    .await;
    for beginning in [
        "",
        "POST",
        "POST /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\nx-slow: ",
    ] {
        let mut connection = serving.connect().await;
        connection.send(beginning.as_bytes()).await;
        connection.closed().await;
    }
    let mut idle = serving.connect().await;
    idle.send(&post("", "{}")).await;
    assert_eq!(idle.answer().await.status, 202);
    idle.closed().await;
}

#[tokio::test]
async fn too_many_headers_and_too_large_ones_are_refused() {
    let serving = with(Limits::default()).await;
    // Two more are always there.
    let lines = |count: usize| "a: b\r\n".repeat(count - 2);
    assert_eq!(serving.ask(&post(&lines(100), "")).await.status, 202);
    assert_eq!(serving.ask(&post(&lines(101), "")).await.status, 431);
    let long = |bytes: usize| format!("a: {}\r\n", "b".repeat(bytes));
    assert_eq!(serving.ask(&post(&long(31 * 1024), "")).await.status, 202);
    assert_eq!(serving.ask(&post(&long(32 * 1024), "")).await.status, 431);
    assert_eq!(serving.webhooks.received().len(), 2);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_until_another_has_had_its_answer() {
    let serving = with(Limits {
        connections: 2,
        ..Limits::default()
    })
    .await;
    let (mut first, _second) = (serving.connect().await, serving.connect().await);
    serving.connected(2).await;
    let mut third = serving.connect().await;
    third.send(&post("", "third")).await;
    first.send(&post("", "first")).await;
    let answer = first.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (202, "close"));
    first.closed().await;
    assert_eq!(third.answer().await.status, 202);
    let received = serving.webhooks.received();
    let bodies: Vec<&[u8]> = received.iter().map(|inbound| &inbound.body[..]).collect();
    assert_eq!(bodies, [b"first", b"third"]);
}

#[tokio::test]
async fn bodies_that_are_only_announced_take_no_room_from_large_ones() {
    let serving = with(Limits::default()).await;
    let head = format!(
        "POST /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\ncontent-length: {MIB}\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut announcing: Vec<Connection> = Vec::new();
    for _ in 0..64 {
        let mut connection = serving.connect().await;
        connection.send(head.as_bytes()).await;
        // The worker asks for a body only when it has begun to read it.
        assert_eq!(connection.answer_without_body().await.status, 100);
        announcing.push(connection);
    }
    let large = post("", &"x".repeat(MIB));
    assert_eq!(serving.ask(&large).await.status, 202);
}

#[tokio::test]
async fn who_ends_its_sending_side_after_a_whole_request_is_still_answered() {
    let serving = with(Limits::default()).await;
    serving.webhooks.hold();
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    stream.write_all(&post("", "{}")).await.unwrap();
    stream.shutdown().await.unwrap();
    serving.webhooks.arrived(1).await;
    serving.webhooks.release();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

#[tokio::test]
async fn a_token_that_cannot_exist_is_unknown_before_the_body_is_sent() {
    let serving = with(Limits::default()).await;
    for token in [
        "t",
        "afwh_",
        &format!("afwh_{}", "t".repeat(44)),
        &format!("afwh_{}%", "t".repeat(42)),
    ] {
        let head =
            format!("POST /v1/webhooks/{token} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n");
        let answer = serving.ask(head.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (404, "not_found"),
            "{token}"
        );
    }
    assert_eq!(serving.webhooks.received().len(), 0);
}

#[tokio::test]
async fn who_waits_too_long_for_the_database_is_refused() {
    let setup = Setup {
        calls: 1,
        limits: Limits {
            queue: SHORT,
            ..Limits::default()
        },
        ..Setup::default()
    };
    let serving = Serving::start(setup).await;
    serving.webhooks.hold();
    let mut first = serving.connect().await;
    first.send(&post("", "{}")).await;
    serving.webhooks.arrived(1).await;
    let refused = serving.ask(&post("", "{}")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    serving.webhooks.release();
    assert_eq!(first.answer().await.status, 202);
    assert_eq!(serving.webhooks.received().len(), 1);
}

#[tokio::test]
async fn many_connections_at_once_are_all_answered() {
    let serving = Serving::start(Setup {
        calls: 64,
        ..Setup::default()
    })
    .await;
    let mut connections: Vec<Connection> = Vec::new();
    for _ in 0..300 {
        connections.push(serving.connect().await);
    }
    for round in 0..3 {
        for connection in &mut connections {
            connection.send(&post("", &round.to_string())).await;
            assert_eq!(connection.answer().await.status, 202);
        }
    }
    assert_eq!(serving.webhooks.received().len(), 900);
}

#[tokio::test]
async fn at_the_end_requests_under_way_are_answered_and_no_more_accepted() {
    let serving = Serving::start(Setup::default()).await;
    let mut idle = serving.connect().await;
    idle.send(&post("", "first")).await;
    assert_eq!(idle.answer().await.status, 202);
    serving.webhooks.hold();
    let mut under_way = serving.connect().await;
    under_way.send(&post("", "{}")).await;
    serving.webhooks.arrived(2).await;
    let (mut silent, mut slow) = (serving.connect().await, serving.connect().await);
    slow.send(b"POST /v1/web").await;
    serving.connected(4).await;

    serving.stop();
    for connection in [&mut idle, &mut silent, &mut slow] {
        connection.closed().await;
    }
    serving.webhooks.release();
    let answer = under_way.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (202, "close"));
    under_way.closed().await;
    let address = serving.address;
    serving.ended().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_that_does_not_end_within_the_grace_is_given_up() {
    let serving = Serving::start(Setup {
        grace: SHORT,
        ..Setup::default()
    })
    .await;
    serving.webhooks.hold();
    let mut under_way = serving.connect().await;
    under_way.send(&post("", "{}")).await;
    serving.webhooks.arrived(1).await;
    serving.stop();
    serving.ended().await;
    under_way.closed().await;
}
