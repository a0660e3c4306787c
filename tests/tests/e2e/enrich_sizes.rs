//! Large questions and answers arrive whole, or fail in a way that says why; and the memory that they took is free again.

use actionflow_tests::{Answer, Cluster, Request};
use serde_json::{Value, json};

use crate::enrich_stage::{Caller, SLOTS, Stage, echo, failure};

/// Bytes of the largest properties and of the largest answer.
const MIB: usize = 1 << 20;

/// Memory for 256 kB in all.
const CRAMPED: &[&str] = &[
    "shared_preload_libraries = 'actionflow'",
    "actionflow.enrich_slots = 16",
    "actionflow.enrich_slot_size = 16",
];

/// Text in which no part can be taken for another one, nor for another seed's.
fn text(seed: usize, length: usize) -> String {
    let mut text = String::with_capacity(length + 16);
    let mut place = 0;
    while text.len() < length {
        text += &format!("{:x}.", (place + 1) * 7919 + seed * 104_729);
        place += 1;
    }
    text.truncate(length);
    text
}

/// An object of exactly so many bytes as JSON, as a row stores it and as HTTP carries it.
fn object(seed: usize, bytes: usize) -> Value {
    let empty = json!({"t": ""}).to_string().len();
    json!({"t": text(seed, bytes - empty)})
}

fn emit_large(event: &str, user: usize, properties: &Value) -> String {
    format!("select actionflow.emit_event('{event}', '{user}', '{properties}')")
}

/// An answer whose body has exactly so many bytes.
fn answer_of(bytes: usize) -> (Answer, Value) {
    let empty = json!({"data": {"t": ""}}).to_string().len();
    let data = json!({"t": text(bytes, bytes - empty)});
    let body = json!({"data": data});
    assert_eq!(body.to_string().len(), bytes);
    (Answer::json(&body), data)
}

/// Answers with the properties themselves.
fn mirror(request: &Request) -> Answer {
    Answer::json(&json!({"data": request.json()["data"]["event"]["properties"]}))
}

#[tokio::test]
async fn questions_of_up_to_a_mebibyte_arrive_whole() {
    let stage = Stage::new().await;
    let _worker = stage.worker().await;
    // Around the blocks that the memory is made of, and the limit.
    for (user, bytes) in [2_000, 8_000, 8_192, 8_193, 65_536, 500_000, MIB]
        .into_iter()
        .enumerate()
    {
        let properties = object(user, bytes);
        assert_eq!(properties.to_string().len(), bytes);
        stage
            .sql()
            .run(&emit_large("login", user, &properties))
            .await;
        let requests = stage.receiver.wait_for("/risk", user + 1).await;
        let received = &requests[user].json()["data"]["event"]["properties"];
        assert!(
            *received == properties,
            "{bytes} bytes of properties were changed"
        );
    }
    let error = stage
        .sql()
        .error(&emit_large("login", 0, &object(0, MIB + 1)))
        .await;
    assert_eq!(error.code, "54000", "{error:?}");
    assert_eq!(stage.receiver.all().len(), 7);
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn answers_of_up_to_a_mebibyte_arrive_whole_and_larger_ones_are_too_large() {
    let stage = Stage::new().await;
    let _worker = stage.worker().await;
    let lengths = [100, 8_170, 8_192, 8_193, 65_536, 500_000, MIB - 1, MIB];
    for (user, bytes) in lengths.into_iter().enumerate() {
        let (answer, data) = answer_of(bytes);
        stage.receiver.always("/risk", answer);
        let told = stage.login(user).await;
        assert!(
            told["results"]["risk"]["data"] == data,
            "{bytes} bytes of data were changed"
        );
    }
    for bytes in [MIB + 1, 3 * MIB] {
        stage.receiver.always("/risk", answer_of(bytes).0);
        assert_eq!(failure(&stage.login(1).await), "too_large", "{bytes}");
    }
    stage.receiver.always("/risk", Answer::Endless(200));
    assert_eq!(failure(&stage.login(1).await), "too_large");
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn many_large_questions_and_answers_at_once_are_not_mixed_up() {
    let stage = Stage::new().await;
    let _worker = stage.worker().await;
    stage.receiver.always("/risk", Answer::By(mirror));
    let mut callers = Vec::new();
    for user in 0..16 {
        let properties = object(user, 300_000 + user * 10_000);
        let caller = stage.call(&emit_large("login", user, &properties)).await;
        callers.push((properties, caller));
    }
    for (properties, caller) in callers {
        let answer = caller.answer().await;
        assert!(
            answer["results"]["risk"]["data"] == properties,
            "another one's answer"
        );
    }
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn little_memory_serves_or_refuses_and_loses_none_of_itself() {
    let cluster = Cluster::start(CRAMPED);
    let stage = Stage::within(&cluster).await;
    let _worker = stage.worker().await;
    stage.receiver.always("/risk", Answer::By(mirror));
    assert_has_all_memory(&stage).await;
    for round in 0..10 {
        let mut callers: Vec<(Value, Caller)> = Vec::new();
        for user in 0..2 * SLOTS {
            let bytes = 1_000 + (user * 37 + round * 11) % 90 * 1_000;
            let properties = object(user + round, bytes);
            let caller = stage.call(&emit_large("login", user, &properties)).await;
            callers.push((properties, caller));
        }
        // Whoever finds no room waits for it, and an answer that is no larger than its question always has some.
        for (properties, caller) in callers {
            let answer = caller.answer().await;
            assert!(
                answer["results"]["risk"]["data"] == properties,
                "{} bytes: {}",
                properties.to_string().len(),
                answer["results"]["risk"]["failure"]
            );
        }
        assert_eq!(stage.in_flight().await, 0);
    }
    assert_has_all_memory(&stage).await;
    stage.receiver.always("/risk", Answer::By(echo));
    stage.fill_every_slot().await;
}

#[tokio::test]
async fn answers_that_find_no_room_in_time_are_busy_and_the_room_comes_back() {
    let cluster = Cluster::start(CRAMPED);
    let stage = Stage::within(&cluster).await;
    let _worker = stage.worker().await;
    let mut served = 0;
    for _ in 0..5 {
        let (answer, data) = answer_of(100_000);
        stage
            .receiver
            .always("/risk", Answer::Later(Box::new(answer)));
        stage.receiver.hold();
        let before = stage.receiver.all().len();
        let callers = stage.logins(0..SLOTS).await;
        stage.receiver.wait_for("/risk", before + SLOTS).await;
        stage.let_go();
        for caller in callers {
            let answer = caller.answer().await;
            if answer["results"]["risk"]["data"] == data {
                served += 1;
            } else {
                let kind = failure(&answer);
                assert_eq!(kind, "busy");
            }
        }
        assert_eq!(stage.in_flight().await, 0);
    }
    assert!(served >= 5, "{served}");
    stage.receiver.always("/risk", Answer::By(mirror));
    assert_has_all_memory(&stage).await;
}

/// A question that needs nearly all memory is served, and one that needs more never is. Properties are in a message twice, as
/// variables of the run and in the event.
async fn assert_has_all_memory(stage: &Stage<'_>) {
    let properties = object(0, 126_000);
    let answer = stage.sql().json(&emit_large("login", 1, &properties)).await;
    let result = &answer["results"]["risk"];
    assert!(
        result["data"] == properties,
        "memory is missing: {}",
        result["failure"]
    );
    for bytes in [132_000, MIB] {
        let large = emit_large("login", 1, &object(0, bytes));
        let caller = stage.call(&large).await;
        assert_eq!(caller.prompt_failure().await, "too_large");
    }
}
