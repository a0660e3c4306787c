use actionflow_core::input::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};
use serde_json_path::JsonPath;

use super::{apply, refused};

fn variable(query: &str) -> Value {
    json!({"kind": "fields", "targetUserIds": {"const": "a"}, "variables": {"v": query}})
}

/// What the query finds: by the mapping's own walk when it is singular.
fn found(query: &str, payload: &Value) -> Option<Value> {
    apply(&variable(query), payload)
        .expect("a result")
        .pointer("/variables/v")
        .cloned()
}

#[test]
fn names_are_written_in_every_way_that_the_standard_knows() {
    let payload = json!({
        "a": {"b c": [1, 2, 3], "d'e": 4, "f\"g": 5, "☺": 6, "x.y": 7, "[0]": 8, "\\": 9, "é": 10, "": 11},
    });
    let cases = [
        ("$['a']['b c'][0]", Some(json!(1))),
        ("$.a[\"b c\"][-1]", Some(json!(3))),
        ("$.a['b c'][3]", None),
        ("$.a['b c'][-4]", None),
        ("$.a['d\\'e']", Some(json!(4))),
        ("$.a[\"d'e\"]", Some(json!(4))),
        ("$.a['f\"g']", Some(json!(5))),
        ("$.a[\"f\\\"g\"]", Some(json!(5))),
        ("$.a.☺", Some(json!(6))),
        ("$.a['\\u263a']", Some(json!(6))),
        ("$.a['x.y']", Some(json!(7))),
        ("$.a['[0]']", Some(json!(8))),
        ("$.a['\\\\']", Some(json!(9))),
        ("$.a.é", Some(json!(10))),
        ("$.a['']", Some(json!(11))),
        ("$ .a ['b c'] [ 1 ]", Some(json!(2))),
        ("$", Some(payload.clone())),
    ];
    for (query, expected) in cases {
        assert_eq!(found(query, &payload), expected, "{query}");
        let path = JsonPath::parse(query).expect("a query");
        assert_eq!(path.query(&payload).first().cloned(), expected, "{query}");
    }
}

#[test]
fn a_query_that_could_take_long_is_refused_or_ends() {
    for query in [
        format!("${}", "[?@".repeat(50) + &"]".repeat(50)),
        format!("$[?{}@.a{}]", "(".repeat(50), ")".repeat(50)),
    ] {
        assert_eq!(
            refused(&variable(&query)).to_string(),
            "invalid mapping: the query nests too deeply"
        );
    }
    let long = format!("$.{}", "a".repeat(1_100));
    assert!(matches!(
        refused(&variable(&long)).kind,
        Kind::TooLarge { .. }
    ));

    let payload = json!({"list": (0..2_000).map(|i| json!({"id": i})).collect::<Vec<_>>()});
    for query in [
        "$..*..*..*..*..*..*..*..*..*..*",
        "$.list[?$.list[?$..id]]",
        "$[*,*,*,*][*,*,*,*][*,*,*,*][*,*,*,*][*,*,*,*]",
    ] {
        let failure = apply(&variable(query), &payload).expect_err("too much");
        assert_eq!(failure.field.as_deref(), Some("$.variables.v"));
        assert_eq!(
            failure.message,
            format!("the payload holds too much for the query {query}")
        );
    }
    assert_eq!(
        found("$..id", &payload).and_then(|ids| ids.as_array().map(Vec::len)),
        Some(2_000)
    );
}

/// The library's parser panics on the first of these.
#[test]
fn a_query_that_ends_within_quotes_is_refused() {
    for query in [
        r"$['\u",
        r"$['\u12",
        r#"$["\ud83d\u"#,
        r"$['a\'",
        "$['",
        r"$[?@.a == '\u",
    ] {
        assert_eq!(
            refused(&variable(query)).to_string(),
            "invalid mapping: the query ends within quotes"
        );
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        "[a-c'\"\\\\. é\\]\\[]{0,3}"
    ]
}

pub(super) fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i8>().prop_map(Value::from),
        name().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(name(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

pub(super) fn singular_query() -> impl Strategy<Value = String> {
    let quoted = |name: String, quote: char| {
        let escaped: String = name
            .chars()
            .flat_map(|c| {
                if c == quote || c == '\\' {
                    vec!['\\', c]
                } else {
                    vec![c]
                }
            })
            .collect();
        format!("[{quote}{escaped}{quote}]")
    };
    let step = prop_oneof![
        "\\.[a-c]",
        name().prop_map(move |name| quoted(name, '\'')),
        name().prop_map(move |name| quoted(name, '"')),
        (-4_i32..4).prop_map(|index| format!("[{index}]")),
    ];
    prop::collection::vec(step, 0..5).prop_map(|steps| format!("${}", steps.concat()))
}

proptest! {
    #[test]
    fn the_walk_of_a_singular_query_finds_what_the_library_finds(payload in json_value(), query in singular_query()) {
        let path = JsonPath::parse(&query).expect("a query");
        prop_assert_eq!(found(&query, &payload), path.query(&payload).first().cloned());
    }

    #[test]
    fn no_text_makes_the_parser_fail_badly(query in "\\$[\\[\\]().?@$*'\"a-b0-3,:<=!&|\\\\ -]{0,40}") {
        if let Ok(mapping) = actionflow_core::mapping::Mapping::parse(&variable(&query)) {
            let _ = mapping.apply(&json!({"a": [{"b": 1}, 2]}), &super::REQUEST, || false);
        }
    }
}
