//! Inbound webhooks: what reaches the database, and what comes back.

use actionflow_worker::ingress::FailureKind;
use serde_json::{Value, json};

use crate::ingress::{Call, Serving, Setup, post};

async fn serving() -> Serving {
    Serving::start(Setup::default()).await
}

#[tokio::test]
async fn a_request_reaches_the_database_as_it_arrived() {
    let serving = serving().await;
    let request = b"PUT /v1/webhooks/afwh_aF-_000000000000000000000000000000000000000?a=1&b=%20 HTTP/1.1\r\nHost: x\r\nX-Sig: v1=a\r\nContent-Length: 4\r\nX-Sig: v1=b\r\nX-Latin: \xfc\r\n\r\n\x00\xff\r\n";
    let answer = serving.ask(request).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (202, r#"{"data": {}}"#)
    );
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");

    let received = serving.webhooks.received();
    let [inbound] = received.as_slice() else {
        panic!("{received:?}");
    };
    assert_eq!(
        (inbound.token.as_str(), inbound.method.as_str()),
        ("afwh_aF-_000000000000000000000000000000000000000", "PUT")
    );
    assert_eq!(&inbound.body[..], b"\x00\xff\r\n");
    assert_eq!(inbound.source.unwrap().to_string(), "127.0.0.1");
    let headers: Value = serde_json::from_str(&inbound.headers).unwrap();
    let expected = json!([
        ["host", "x"],
        ["x-sig", "v1=a"],
        ["x-sig", "v1=b"],
        ["content-length", "4"],
        ["x-latin", "ü"],
        [":query", "a=1&b=%20"]
    ]);
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn handshakes_with_get_and_head_are_passed_on_and_other_methods_are_not() {
    let serving = serving().await;
    let mut connection = serving.connect().await;
    serving
        .webhooks
        .will_answer(200, Some(r#""challenge \u00fc\n""#));
    connection
        .send(b"GET /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt?hub.challenge=1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let answer = connection.answer().await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "challenge ü\n")
    );
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");

    serving.webhooks.will_answer(200, Some(r#""text""#));
    connection
        .send(b"HEAD /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(connection.answer_without_body().await.status, 200);

    connection
        .send(b"DELETE /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let refused = connection.answer().await;
    assert_eq!(
        (refused.status, refused.error_code().as_str()),
        (405, "method_not_allowed")
    );
    assert_eq!(refused.header("allow"), "POST, PUT");
    let methods: Vec<String> = serving
        .webhooks
        .received()
        .iter()
        .map(|i| i.method.to_string())
        .collect();
    assert_eq!(methods, ["GET", "HEAD"]);
}

#[tokio::test]
async fn an_answer_without_content_has_no_body_and_one_that_is_no_http_is_a_failure() {
    let serving = serving().await;
    for (status, response) in [(200, None), (200, Some("null")), (204, None)] {
        serving.webhooks.will_answer(status, response);
        let answer = serving.ask(&post("", "{}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""));
        assert_eq!(answer.header("content-type"), "");
    }
    for status in [0, 99, 100, 1000] {
        serving.webhooks.will_answer(status, Some("{}"));
        let answer = serving.ask(&post("", "{}")).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (500, "internal"),
            "{status}"
        );
    }
}

#[tokio::test]
async fn requests_in_a_row_on_one_connection_are_answered_in_order() {
    let serving = serving().await;
    let mut connection = serving.connect().await;
    let mut row = Vec::new();
    for number in 0..20 {
        serving
            .webhooks
            .will_answer(200, Some(&format!("[{number}]")));
        row.extend(post("", &format!("{number}")));
    }
    connection.send(&row).await;
    for number in 0..20 {
        assert_eq!(connection.answer().await.body, format!("[{number}]"));
    }
    let received = serving.webhooks.received();
    let bodies: Vec<&[u8]> = received.iter().map(|inbound| &inbound.body[..]).collect();
    assert_eq!(
        (bodies[0], bodies[19], bodies.len()),
        (&b"0"[..], &b"19"[..], 20)
    );
}

#[tokio::test]
async fn a_chunked_body_is_put_together() {
    let serving = serving().await;
    let mut connection = serving.connect().await;
    connection
        .send(b"POST /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(connection.answer_without_body().await.status, 100);
    for piece in [
        "1\r\n{\r\n",
        "2\r\n\"a",
        "\r\n3;x=y\r\n\":1\r\n",
        "1\r\n}\r\n0\r\n\r\n",
    ] {
        connection.send(piece.as_bytes()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(connection.answer().await.status, 202);
    assert_eq!(&serving.webhooks.received()[0].body[..], br#"{"a":1}"#);
}

#[tokio::test]
async fn a_conflict_is_tried_once_more() {
    let serving = serving().await;
    serving.webhooks.will(Call::Fails(FailureKind::Conflict));
    assert_eq!(serving.ask(&post("", "1")).await.status, 202);
    assert_eq!(serving.webhooks.received().len(), 2);

    serving.webhooks.will(Call::Fails(FailureKind::Conflict));
    serving.webhooks.will(Call::Fails(FailureKind::Conflict));
    let answer = serving.ask(&post("", "2")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
    assert_eq!(serving.webhooks.received().len(), 4);
}

#[tokio::test]
async fn what_the_database_cannot_do_is_answered_without_saying_why() {
    let serving = serving().await;
    serving.webhooks.will(Call::Fails(FailureKind::Unavailable));
    serving.webhooks.will(Call::Fails(FailureKind::Internal));
    serving.webhooks.will(Call::Panics);
    for (status, code, retry_after) in [
        (503, "unavailable", "5"),
        (500, "internal", ""),
        (500, "internal", ""),
    ] {
        let answer = serving.ask(&post("", "{}")).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (status, code)
        );
        assert_eq!(answer.header("retry-after"), retry_after);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(!answer.body.contains("database"), "{}", answer.body);
    }
    assert_eq!(serving.webhooks.received().len(), 3, "none is tried again");
    assert_eq!(serving.metrics.database_errors.get(), 2);
}

#[tokio::test]
async fn a_call_whose_sender_has_gone_ends_and_frees_its_place() {
    let serving = Serving::start(Setup {
        calls: 1,
        ..Setup::default()
    })
    .await;
    serving.webhooks.hold();
    let mut gone = serving.connect().await;
    gone.send(&post("", "gone")).await;
    serving.webhooks.arrived(1).await;
    drop(gone);
    let mut next = serving.connect().await;
    next.send(&post("", "next")).await;
    serving.queued(1).await;
    assert_eq!(
        serving.webhooks.received().len(),
        1,
        "the first still has the only place"
    );
    serving.webhooks.release();
    assert_eq!(next.answer().await.status, 202);
}

#[tokio::test]
async fn a_body_that_ends_early_never_reaches_the_database() {
    let serving = serving().await;
    let mut short = serving.connect().await;
    short
        .send(b"POST /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{}")
        .await;
    drop(short);
    let malformed =
        b"POST /v1/webhooks/afwh_ttttttttttttttttttttttttttttttttttttttttttt HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nnope\r\n";
    let answer = serving.ask(malformed).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (400, "invalid_request")
    );
    serving.stop();
    let webhooks = serving.webhooks.clone();
    serving.ended().await;
    assert_eq!(webhooks.received().len(), 0);
}

#[tokio::test]
async fn other_paths_are_not_found_and_answers_are_counted() {
    let serving = serving().await;
    for path in ["/v1/webhooks/", "/v1/webhooks/a/b", "/v1/webhooks", "/"] {
        let request = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(serving.ask(request.as_bytes()).await.status, 404, "{path}");
    }
    assert_eq!(serving.webhooks.received().len(), 0);
    serving.webhooks.will_answer(401, Some("{}"));
    serving.ask(&post("", "1")).await;
    serving.ask(&post("", "2")).await;
    let page = serving
        .ask(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    for line in [
        r#"actionflow_webhook_requests_total{status="401"} 1"#,
        r#"actionflow_webhook_requests_total{status="202"} 1"#,
        "actionflow_webhook_duration_seconds_count 2",
        "actionflow_webhook_queue 0",
    ] {
        assert!(page.body.contains(line), "{line}: {}", page.body);
    }
}
