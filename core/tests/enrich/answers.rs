//! Answers as JSON: what is taken, what is refused, and that nothing makes reading panic.

use actionflow_core::enrich::answer::{Answer, AnswerError, Decision, MAX_ANSWER_BYTES, read};
use actionflow_core::enrich::reply::Reply;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::vectors::*;
use crate::{NOW, REQUEST, answer_key};

fn read_json(body: &[u8]) -> Result<Answer, AnswerError> {
    read(body, Some("application/json"), None, REQUEST, NOW)
}

#[test]
fn the_documented_answer_is_read() {
    let body = br#"{"action": "block", "data": {"score": 0.970, "n": null}, "custom_claims": {"role": "gold"},
        "reason": "for the log", "user_message": "for the person", "version": 2}"#;
    let answer = read_json(body).expect("a good answer");
    assert_eq!(answer.action, Decision::Block);
    assert_eq!(
        serde_json::to_string(&answer.to_json()).expect("JSON"),
        r#"{"action":"block","custom_claims":{"role":"gold"},"data":{"n":null,"score":0.970},"reason":"for the log","user_message":"for the person"}"#
    );
}

#[test]
fn everything_is_optional() {
    let allow = Answer {
        action: Decision::Allow,
        data: Map::new(),
        custom_claims: Map::new(),
        reason: None,
        user_message: None,
    };
    for body in [
        "{}",
        " {\"unknown\": {\"a\\u0000\": 1e9999}} ",
        r#"{"data": null, "custom_claims": null, "reason": null, "user_message": null}"#,
    ] {
        assert_eq!(read_json(body.as_bytes()), Ok(allow.clone()), "{body}");
    }
}

#[test]
fn an_answer_is_refused_that() {
    use AnswerError::*;
    let wrong = |key, expected| WrongType { key, expected };
    let cases = [
        ("", NotJson),
        ("allow", NotJson),
        ("{\"action\": \"allow\"", NotJson),
        ("{} {}", NotJson),
        ("{\"data\": {\"a\": NaN}}", NotJson),
        ("null", NotAnObject),
        ("[{}]", NotAnObject),
        ("\"allow\"", NotAnObject),
        ("7", NotAnObject),
        (r#"{"action": "Allow"}"#, UnknownAction),
        (r#"{"action": "deny"}"#, UnknownAction),
        (r#"{"action": ""}"#, UnknownAction),
        (r#"{"action": null}"#, UnknownAction),
        (r#"{"action": true}"#, UnknownAction),
        (r#"{"action": ["allow"]}"#, UnknownAction),
        (r#"{"data": []}"#, wrong("data", "an object")),
        (r#"{"data": "a"}"#, wrong("data", "an object")),
        (
            r#"{"custom_claims": [1]}"#,
            wrong("custom_claims", "an object"),
        ),
        (r#"{"reason": 1}"#, wrong("reason", "a string")),
        (r#"{"user_message": {}}"#, wrong("user_message", "a string")),
        (r#"{"custom_claims": {"": 1}}"#, ClaimName),
        (r#"{"data": {"a": ["x\u0000y"]}}"#, Nul("data")),
        (r#"{"data": {"a": {"b\u0000": 1}}}"#, Nul("data")),
        (r#"{"custom_claims": {"a\u0000": 1}}"#, Nul("custom_claims")),
        (
            r#"{"custom_claims": {"a": "\u0000"}}"#,
            Nul("custom_claims"),
        ),
        (r#"{"reason": "\u0000"}"#, Nul("reason")),
        (r#"{"user_message": "a\u0000"}"#, Nul("user_message")),
        (r#"{"data": {"a": 1e325}}"#, Number("data")),
        (r#"{"data": {"a": [1E+131000]}}"#, Number("data")),
        (
            r#"{"data": {"a": 1e-99999999999999999999}}"#,
            Number("data"),
        ),
        (
            r#"{"custom_claims": {"a": 1e-16384}}"#,
            Number("custom_claims"),
        ),
    ];
    for (body, error) in cases {
        assert_eq!(read_json(body.as_bytes()), Err(error), "{body}");
    }
    let deep = format!("{{\"data\": {}}}", "[".repeat(100_000));
    assert_eq!(read_json(deep.as_bytes()), Err(NotJson));
    assert_eq!(read_json(b"{\"reason\": \"\xff\"}"), Err(NotJson));
}

#[test]
fn every_registered_claim_is_refused_and_no_other() {
    for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"] {
        let answer = json!({"custom_claims": {name: 1}});
        assert_eq!(
            Answer::from_json(&answer),
            Err(AnswerError::RegisteredClaim(name))
        );
        assert!(Answer::from_json(&json!({"data": {name: 1}})).is_ok());
    }
    for name in ["Iss", "sub ", "role", "email"] {
        assert!(Answer::from_json(&json!({"custom_claims": {name: 1}})).is_ok());
    }
}

#[test]
fn claims_have_limits() {
    let many = |count: usize| -> Value {
        let claims: Map<_, _> = (0..count).map(|n| (format!("c{n}"), json!(n))).collect();
        json!({"custom_claims": claims})
    };
    assert!(Answer::from_json(&many(100)).is_ok());
    assert_eq!(
        Answer::from_json(&many(101)),
        Err(AnswerError::TooManyClaims)
    );
    let named = |bytes: usize| json!({"custom_claims": {"é".repeat(bytes / 2): 1}});
    assert!(Answer::from_json(&named(200)).is_ok());
    assert_eq!(Answer::from_json(&named(202)), Err(AnswerError::ClaimName));
    // {"a":"…"} takes eight bytes beside the text.
    let sized = |bytes: usize| json!({"custom_claims": {"a": "x".repeat(bytes - 8)}});
    assert!(Answer::from_json(&sized(64 << 10)).is_ok());
    assert_eq!(
        Answer::from_json(&sized((64 << 10) + 1)),
        Err(AnswerError::ClaimsTooLarge)
    );
}

#[test]
fn numbers_keep_their_digits() {
    let digits = "1234567890".repeat(40);
    for number in [
        "0",
        "-0.0",
        "1e+308",
        "4.9406564584124654e-324",
        "12.50",
        &digits,
    ] {
        let body = format!("{{\"data\":{{\"a\":{number}}}}}");
        let answer = read_json(body.as_bytes()).expect(number);
        assert_eq!(answer.data["a"].to_string(), number);
    }
    let body = format!("{{\"data\":{{\"a\":{digits}1}}}}");
    assert_eq!(read_json(body.as_bytes()), Err(AnswerError::Number("data")));
}

#[test]
fn texts_are_cut_at_1024_characters() {
    let answer = json!({"reason": "é".repeat(1025), "user_message": "x".repeat(1024)});
    let answer = Answer::from_json(&answer).expect("a good answer");
    assert_eq!(answer.reason, Some("é".repeat(1024)));
    assert_eq!(answer.user_message, Some("x".repeat(1024)));
}

#[test]
fn a_body_over_1_mib_is_not_looked_at() {
    let body = |bytes: usize| {
        let mut body = b"{}".to_vec();
        body.resize(bytes, b' ');
        body
    };
    assert!(read_json(&body(MAX_ANSWER_BYTES)).is_ok());
    let over = body(MAX_ANSWER_BYTES + 1);
    assert_eq!(read_json(&over), Err(AnswerError::TooLarge));
    let key = answer_key("HS256", SECRET);
    assert_eq!(
        read(&over, None, Some(&key), REQUEST, NOW),
        Err(AnswerError::TooLarge)
    );
}

#[test]
fn without_a_key_nothing_but_json_is_believed() {
    let read = |body: &str, content_type| read(body.as_bytes(), content_type, None, REQUEST, NOW);
    for content_type in [
        None,
        Some("application/json"),
        Some("Application/JSON ; charset=utf-8"),
        Some("application/json;"),
    ] {
        assert!(read("{}", content_type).is_ok(), "{content_type:?}");
    }
    for content_type in [
        "",
        ";",
        "text/html",
        "application/jsonp",
        "application/jwt",
        "application/json, application/json",
        "application/json; charset=utf-8, text/html",
        "text/html, application/json",
    ] {
        let answer = read("{}", Some(content_type));
        assert_eq!(answer, Err(AnswerError::NotJsonType), "{content_type}");
    }
    assert_eq!(
        read(TOKEN_HS256, Some("application/jwt")),
        Err(AnswerError::NotJsonType)
    );
    assert_eq!(
        read(TOKEN_HS256, Some("application/json")),
        Err(AnswerError::NotJson)
    );
    assert_eq!(read(TOKEN_NONE, None), Err(AnswerError::NotJson));
}

#[test]
fn with_a_key_nothing_but_a_signed_token_is_believed() {
    let key = answer_key("RS256", RSA_PUBLIC);
    let read =
        |body: &str, content_type| read(body.as_bytes(), content_type, Some(&key), REQUEST, NOW);
    for content_type in [None, Some("application/jwt"), Some("application/JWT; a=b")] {
        assert!(read(TOKEN_RS256, content_type).is_ok(), "{content_type:?}");
    }
    for content_type in [
        "application/json",
        "text/plain",
        "application/secevent+jwt",
        "application/jwt, application/jwt",
    ] {
        for body in ["{}", TOKEN_RS256] {
            let answer = read(body, Some(content_type));
            assert_eq!(answer, Err(AnswerError::NotJwtType), "{content_type}");
        }
    }
    for body in ["{}", r#"{"action": "allow"}"#, ""] {
        for content_type in [None, Some("application/jwt")] {
            let answer = read(body, content_type);
            assert!(matches!(answer, Err(AnswerError::Token(_))), "{body}");
        }
    }
}

#[test]
fn errors_do_not_repeat_the_answer() {
    for answer in [
        json!({"action": "hunter2"}),
        json!({"data": "hunter2"}),
        json!({"custom_claims": {"hunter2\0": 1}}),
        json!({"reason": ["hunter2"]}),
    ] {
        let error = Answer::from_json(&answer).expect_err("must be refused");
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
}

#[test]
fn the_strictest_decision_is_the_greatest() {
    assert!(Decision::Allow < Decision::Challenge && Decision::Challenge < Decision::Block);
    for name in ["allow", "challenge", "block"] {
        assert_eq!(Decision::parse(name).map(Decision::as_str), Some(name));
    }
    assert_eq!(Decision::parse("deny"), None);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("\\PC{0,6}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn members(prefix: &'static str) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::hash_map("\\PC{1,6}", value(), 0..5).prop_map(move |map| {
        map.into_iter()
            .map(|(name, value)| (format!("{prefix}{name}"), value))
            .collect()
    })
}

prop_compose! {
    fn answer()(
        action in prop::sample::select(vec![Decision::Allow, Decision::Challenge, Decision::Block]),
        data in members(""),
        custom_claims in members("c_"),
        reason in prop::option::of("\\PC{0,40}"),
        user_message in prop::option::of("\\PC{0,40}"),
    ) -> Answer {
        Answer { action, data, custom_claims, reason, user_message }
    }
}

proptest! {
    #[test]
    fn an_answer_survives_its_json(answer in answer()) {
        let reply = Reply::Answer(answer.clone());
        let text = serde_json::to_string(&reply.to_json()).expect("JSON");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(Answer::from_json(&json["answer"]), Ok(answer));
        prop_assert_eq!(Reply::from_json(&json), Ok(reply));
    }

    #[test]
    fn reading_any_bytes_never_panics(
        body in prop::collection::vec(any::<u8>(), 0..400),
        content_type in prop::option::of("\\PC{0,30}|application/(json|jwt)"),
    ) {
        for (algorithm, key) in [("HS256", SECRET), ("RS256", RSA_PUBLIC), ("ES256", EC_PUBLIC), ("EdDSA", ED_PUBLIC)] {
            let key = answer_key(algorithm, key);
            let _is_judged = read(&body, content_type.as_deref(), Some(&key), REQUEST, NOW);
        }
        let _is_judged = read(&body, content_type.as_deref(), None, REQUEST, NOW);
    }

    #[test]
    fn reading_any_json_never_panics(
        json in value(),
        key in prop::sample::select(vec!["action", "data", "custom_claims", "reason", "user_message"]),
    ) {
        let _is_judged = read_json(json.to_string().as_bytes());
        let _is_judged = read_json(json!({key: json}).to_string().as_bytes());
        let _is_judged = Reply::from_json(&json!({"failure": {key: json}}));
    }
}
