use actionflow_core::mapping::checked_payload;
use serde_json::{Value, json};

fn text(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

#[test]
fn a_full_payload_passes() {
    let payload = json!({
        "targetUserIds": ["a", 2],
        "flowInvocationId": "i",
        "variables": {"n": 1.5},
        "notificationDetail": {},
        "metadata": {"x": [null, true]},
    });
    let checked = checked_payload(&payload).expect("valid");
    assert_eq!(checked.target_user_ids, ["a", "2"]);
    assert_eq!(checked.flow_invocation_id.as_deref(), Some("i"));
    assert_eq!(Value::from(checked.metadata), json!({"x": [null, true]}));
}

#[test]
fn what_postgres_cannot_store_is_refused_with_its_place() {
    let deep = format!("{}{}", "[".repeat(110), "]".repeat(110));
    let cases = [
        (r#"{"a": "x\u0000y"}"#, "$.variables.a", "U+0000"),
        (
            r#"{"a": [1, {"b\u0000": 1}]}"#,
            r#"$.variables.a[1]["b\0"]"#,
            "U+0000",
        ),
        (
            r#"{"a": 1e1001}"#,
            "$.variables.a",
            "a number is over the limit",
        ),
        (
            r#"{"a": [1e-99999]}"#,
            "$.variables.a[0]",
            "a number is over the limit",
        ),
        (
            r#"{"a": 1e99999999999999999999}"#,
            "$.variables.a",
            "a number is over the limit",
        ),
        (
            &format!(r#"{{"a": {}}}"#, "9".repeat(1_001)),
            "$.variables.a",
            "a number is over the limit",
        ),
        (
            &format!(r#"{{"a": {deep}}}"#),
            "",
            "the nesting is over the limit of 100 levels",
        ),
    ];
    for (variables, path, message) in cases {
        let payload = text(&format!(
            r#"{{"targetUserIds": ["a"], "variables": {variables}}}"#
        ));
        let error = checked_payload(&payload).expect_err("must be refused");
        assert!(
            error.to_string().contains(message),
            "{variables:.60}: {error}"
        );
        assert!(path.is_empty() || error.path == path, "{}", error.path);
    }
    for variables in [
        r#"{"a": 1e308}"#,
        r#"{"a": -1.5E-300}"#,
        &format!(r#"{{"a": 0.{}}}"#, "3".repeat(900)),
    ] {
        let payload = text(&format!(
            r#"{{"targetUserIds": ["a"], "variables": {variables}}}"#
        ));
        assert!(checked_payload(&payload).is_ok(), "{variables:.60}");
    }
}

#[test]
fn the_size_counts_as_json_text() {
    let of_length = |bytes: usize| {
        let empty = json!({"targetUserIds": ["a"], "variables": {"\n": ["", false, 12]}})
            .to_string()
            .len();
        json!({"targetUserIds": ["a"], "variables": {"\n": ["x".repeat(bytes - empty), false, 12]}})
    };
    assert!(checked_payload(&of_length(1 << 20)).is_ok());
    let error = checked_payload(&of_length((1 << 20) + 1)).expect_err("one byte too many");
    assert_eq!(
        error.to_string(),
        "invalid trigger payload: the payload is over the limit of 1048576 bytes"
    );
}

#[test]
fn it_is_one_trigger_payload() {
    let cases = [
        (
            json!([{"targetUserIds": ["a"]}]),
            "expected an object, got an array",
        ),
        (json!(null), "expected an object, got null"),
        (json!({}), "key \"targetUserIds\" is missing"),
        (json!({"targetUserIds": []}), "the list of targets is empty"),
        (
            json!({"targetUserIds": ["a"], "userId": "b"}),
            "unknown key \"userId\"",
        ),
        (
            json!({"targetUserIds": ["a"], "flowInvocationId": ["b"]}),
            "expected a string, got an array",
        ),
    ];
    for (payload, message) in cases {
        let error = checked_payload(&payload).expect_err("must be refused");
        assert_eq!(
            error.to_string(),
            format!("invalid trigger payload: {message}")
        );
    }
}
