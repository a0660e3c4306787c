use actionflow_core::input::Kind;
use actionflow_core::mapping::{Mapping, checked_payload};
use serde_json::{Value, json};

use super::{REQUEST, apply, refused};

fn payload() -> Value {
    json!({
        "id": "evt_1",
        "customer": {"id": 42, "name": "Ann", "tags": null},
        "items": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 7}, {"sku": "c", "qty": 9}],
        "meta": {"source": "shop"},
        "big": 12345678901234567890123_u128.to_string(),
    })
}

fn fields(parts: Value) -> Value {
    let mut mapping = json!({"kind": "fields", "targetUserIds": "$.customer.id"});
    let (Value::Object(all), Value::Object(more)) = (&mut mapping, parts) else {
        unreachable!("both are objects");
    };
    all.extend(more);
    mapping
}

#[test]
fn none_takes_the_payload_as_it_is() {
    assert_eq!(apply(&json!({"kind": "none"}), &payload()), Ok(payload()));
    assert_eq!(
        Mapping::default().apply(&payload(), &REQUEST, || false),
        Ok(payload())
    );
    assert!(matches!(
        refused(&json!({"kind": "none", "source": ""})).kind,
        Kind::UnknownKey { .. }
    ));
}

#[test]
fn every_part_is_found_or_constant() {
    let mapping = json!({
        "kind": "fields",
        "targetUserIds": "$.customer.id",
        "flowInvocationId": "$.id",
        "variables": {
            "name": "$.customer.name",
            "last": "$.items[-1].sku",
            "source": {"const": "shop"},
            "nothing": {"const": null},
            "const": "$['id']",
        },
        "notificationDetail": "$.meta",
        "metadata": {"skus": "$.items[*].sku", "many": "$.items[?@.qty > 5].sku", "all": "$..sku", "none": "$.x[*]"},
    });
    assert_eq!(
        apply(&mapping, &payload()).expect("a result"),
        json!({
            "targetUserIds": [42],
            "flowInvocationId": "evt_1",
            "variables": {"name": "Ann", "last": "c", "source": "shop", "nothing": null, "const": "evt_1"},
            "notificationDetail": {"source": "shop"},
            "metadata": {"skus": ["a", "b", "c"], "many": ["b", "c"], "all": ["a", "b", "c"], "none": []},
        })
    );
}

#[test]
fn what_a_singular_query_does_not_find_is_left_out() {
    let mapping = fields(json!({
        "flowInvocationId": "$.absent",
        "variables": {"a": "$.customer.absent", "b": "$.items[9]", "c": "$.customer.tags", "d": "$.id.of"},
        "metadata": "$.absent",
    }));
    assert_eq!(
        apply(&mapping, &payload()).expect("a result"),
        json!({"targetUserIds": [42], "variables": {"c": null}})
    );
}

#[test]
fn targets_are_a_scalar_an_array_or_several_nodes() {
    let payload = json!({"one": "a", "many": ["b", 3], "users": [{"id": "c"}, {"id": null}, {"id": "d"}], "empty": []});
    let targets = |spec: Value| {
        apply(&json!({"kind": "fields", "targetUserIds": spec}), &payload)
            .map(|result| result["targetUserIds"].clone())
            .map_err(|failure| (failure.field, failure.message))
    };
    assert_eq!(targets(json!("$.one")), Ok(json!(["a"])));
    assert_eq!(targets(json!("$.many")), Ok(json!(["b", 3])));
    assert_eq!(targets(json!("$.users[*].id")), Ok(json!(["c", "d"])));
    assert_eq!(targets(json!("$.empty")), Ok(json!([])));
    assert_eq!(
        targets(json!(["$.one", "$.many", {"const": "z"}, "$.absent"])),
        Ok(json!(["a", "b", 3, "z"]))
    );
    assert_eq!(
        targets(json!(["$.absent", "$.users[9].id"])),
        Err((
            Some("$.targetUserIds".to_owned()),
            "nothing is found by $.absent, $.users[9].id".to_owned()
        ))
    );
}

#[test]
fn numbers_keep_their_digits() {
    let payload: Value =
        serde_json::from_str(r#"{"id": 1, "n": 12345678901234567890.12345678901234567890}"#)
            .expect("JSON");
    let mapping = json!({"kind": "fields", "targetUserIds": "$.id", "variables": {"n": "$.n"}});
    let result = apply(&mapping, &payload).expect("a result");
    assert_eq!(
        result["variables"]["n"].to_string(),
        "12345678901234567890.12345678901234567890"
    );
}

#[test]
fn a_whole_part_must_be_one_object() {
    let failure = |query: &str| {
        let failure =
            apply(&fields(json!({"variables": query})), &payload()).expect_err("no object");
        (failure.field.unwrap_or_default(), failure.message)
    };
    assert_eq!(
        failure("$.items"),
        (
            "$.variables".to_owned(),
            "what is found by $.items is no object".to_owned()
        )
    );
    assert_eq!(
        failure("$.items[*]"),
        (
            "$.variables".to_owned(),
            "more than one value is found by $.items[*]".to_owned()
        )
    );
}

#[test]
fn mistakes_in_parts_name_their_place() {
    all_refused(&[
        (
            json!({"variables": {"a": "customer"}}),
            "$.variables.a",
            "\"customer\" is no JSONPath query",
        ),
        (
            json!({"variables": {"a b": "$."}}),
            "$.variables[\"a b\"]",
            "\"$.\" is no JSONPath query",
        ),
        (
            json!({"variables": {"a": 3}}),
            "$.variables.a",
            "expected a JSONPath query or",
        ),
        (
            json!({"variables": {"a": {"value": 3}}}),
            "$.variables.a",
            "unknown key \"value\"",
        ),
        (
            json!({"variables": {"a": {}}}),
            "$.variables.a",
            "key \"const\" is missing",
        ),
        (
            json!({"variables": ["$.a"]}),
            "$.variables",
            "expected an object of names",
        ),
    ]);
}

#[test]
fn mistakes_in_ids_and_kinds_name_their_place() {
    all_refused(&[
        (
            json!({"targetUserIds": []}),
            "$.targetUserIds",
            "the list of targets is empty",
        ),
        (
            json!({"targetUserIds": ["$.a", {"const": ""}]}),
            "$.targetUserIds[1].const",
            "an id is empty",
        ),
        (
            json!({"flowInvocationId": "$..id"}),
            "$.flowInvocationId",
            "may find more than one value",
        ),
        (
            json!({"flowInvocationId": {"const": 3}}),
            "$.flowInvocationId.const",
            "expected a string",
        ),
        (
            json!({"flowInvocationId": ["$.id"]}),
            "$.flowInvocationId",
            "expected a JSONPath query or",
        ),
        (json!({"target": "$.id"}), "$", "unknown key \"target\""),
        (
            json!({"targetUserIds": null}),
            "$",
            "key \"targetUserIds\" is missing",
        ),
        (
            json!({"kind": "xslt"}),
            "$.kind",
            "there is no kind \"xslt\"",
        ),
        (json!({"kind": 3}), "$.kind", "expected a string"),
        (json!({"kind": null}), "$", "key \"kind\" is missing"),
    ]);
    assert_eq!(
        refused(&json!([])).to_string(),
        "invalid mapping: expected an object, got an array"
    );
}

/// Changes to a good mapping, each with the place of the mistake and what is said about it.
fn all_refused(cases: &[(Value, &str, &str)]) {
    for (change, path, message) in cases {
        let error = refused(&fields(change.clone()));
        assert_eq!(error.path, *path, "{change}");
        assert!(error.to_string().contains(message), "{change}: {error}");
    }
}

#[test]
fn a_text_that_is_meant_as_it_is_gets_the_hint() {
    match refused(&fields(json!({"variables": {"a": "shop"}}))).kind {
        Kind::Unusable { hint, .. } => assert!(hint.contains("{\"const\": …}"), "{hint}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_result_cannot_grow_over_its_limit() {
    let payload = json!({"id": "a", "big": "x".repeat(100_000)});
    let names: serde_json::Map<String, Value> =
        (0..10).map(|i| (format!("v{i}"), json!("$.big"))).collect();
    assert!(
        apply(
            &json!({"kind": "fields", "targetUserIds": "$.id", "variables": names}),
            &payload
        )
        .is_ok()
    );
    let names: serde_json::Map<String, Value> =
        (0..11).map(|i| (format!("v{i}"), json!("$.big"))).collect();
    let failure = apply(
        &json!({"kind": "fields", "targetUserIds": "$.id", "variables": names}),
        &payload,
    )
    .expect_err("too large");
    assert_eq!(
        failure.message,
        "the result is over the limit of 1048576 bytes"
    );
}

#[test]
fn what_is_many_times_too_large_is_refused_whatever_it_is() {
    let text = "x".repeat(3 << 20);
    let numbers: Vec<u32> = (0..1_000_000).collect();
    let object: serde_json::Map<String, Value> =
        (0..300_000).map(|i| (format!("k{i}"), json!(i))).collect();
    for big in [
        json!([text]),
        json!({"a": text}),
        json!(numbers),
        Value::Object(object),
        json!([[[text]]]),
        json!({"a": {"b": [text]}}),
        json!(text),
    ] {
        let payload = json!({"id": "a", "big": big, "all": {"big": big}});
        for parts in [
            json!({"variables": {"v": "$.big"}}),
            json!({"variables": {"v": "$.all['big']"}}),
            json!({"variables": "$.all"}),
            json!({"variables": {"v": {"const": big}}}),
        ] {
            let mut mapping = json!({"kind": "fields", "targetUserIds": "$.id"});
            mapping["variables"] = parts["variables"].clone();
            let failure = apply(&mapping, &payload).expect_err("too large");
            assert_eq!(
                failure.message,
                "the result is over the limit of 1048576 bytes"
            );
        }
    }
}

#[test]
fn what_is_found_is_a_payload_that_starts_a_flow() {
    let mapped = apply(&fields(json!({"flowInvocationId": "$.id"})), &payload()).expect("a result");
    let checked = checked_payload(&mapped).expect("a trigger payload");
    assert_eq!(checked.target_user_ids, ["42"]);
    assert_eq!(checked.flow_invocation_id.as_deref(), Some("evt_1"));
}
