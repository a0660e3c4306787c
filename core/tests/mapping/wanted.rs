//! Whoever has only what a mapping wants of a payload gets the same from it.

use actionflow_core::mapping::{Mapping, Wanted};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::REQUEST;
use super::queries::{json_value, singular_query};

fn wanted(variables: &[&str]) -> Wanted {
    let mapping = json!({"kind": "fields", "targetUserIds": {"const": "a"}, "variables": variables
        .iter()
        .map(|query| ((*query).to_owned(), json!(query)))
        .collect::<serde_json::Map<_, _>>()});
    Mapping::parse(&mapping)
        .expect("a good mapping")
        .wanted()
        .clone()
}

fn members(members: &[(&str, Wanted)]) -> Wanted {
    let members = members.iter();
    Wanted::Members(
        members
            .map(|(name, part)| ((*name).to_owned(), part.clone()))
            .collect(),
    )
}

fn part_of(payload: &Value, wanted: &Wanted) -> Value {
    match (wanted, payload) {
        (Wanted::All, all) => all.clone(),
        (Wanted::Members(members), Value::Object(object)) => members
            .iter()
            .filter_map(|(name, wanted)| Some((name.clone(), part_of(object.get(name)?, wanted))))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => Value::Null,
    }
}

#[test]
fn names_lead_to_what_is_wanted_and_anything_else_wants_all_there() {
    let all = || Wanted::All;
    let cases: [(&[&str], Wanted); 11] = [
        (
            &["$.a.b", "$.a.c", "$['a'].b"],
            members(&[("a", members(&[("b", all()), ("c", all())]))]),
        ),
        (&["$.a.b", "$.a"], members(&[("a", all())])),
        (&["$.a", "$.a.b"], members(&[("a", all())])),
        (
            &["$.bb", "$.a", "$.c"],
            members(&[("a", all()), ("c", all()), ("bb", all())]),
        ),
        (&["$.a[0].b"], members(&[("a", all())])),
        (
            &["$.a.b[*].c", "$.d..e"],
            members(&[("a", members(&[("b", all())])), ("d", all())]),
        ),
        (&["$.a['b','c']"], members(&[("a", all())])),
        (&["$.a[?@.x == $.b]"], all()),
        (&["$[0].a"], all()),
        (&["$.*", "$.a"], all()),
        (&[], members(&[])),
    ];
    for (queries, expected) in cases {
        assert_eq!(wanted(queries), expected, "{queries:?}");
    }
    for mapping in [
        json!({"kind": "none"}),
        json!({"kind": "fields", "targetUserIds": "$..id"}),
    ] {
        let mapping = Mapping::parse(&mapping).expect("a good mapping");
        assert_eq!(mapping.wanted(), &Wanted::All);
        assert!(!mapping.reads_request());
    }
}

#[cfg(feature = "javascript")]
#[test]
fn a_script_wants_everything() {
    let mapping =
        json!({"kind": "javascript", "source": "function map(payload) { return payload }"});
    let mapping = Mapping::parse(&mapping).expect("a good mapping");
    assert_eq!(mapping.wanted(), &Wanted::All);
    assert!(mapping.reads_request());
}

/// A query of any kind, the limit of which small payloads are far from.
fn query() -> impl Strategy<Value = String> {
    let rest = prop::sample::select(vec![
        "",
        "",
        ".*",
        "..a",
        "..*",
        "[*].a",
        "[0:2]",
        "['a','b']",
        "[?@.a]",
        "[?@ == $.a]",
        "[?@.b > 1].a",
    ]);
    (singular_query(), rest).prop_map(|(first, rest)| first + rest)
}

proptest! {
    #[test]
    fn a_mapping_makes_the_same_of_what_it_wants_as_of_everything(
        payload in json_value(),
        [target, first, second, whole] in [query(), query(), query(), query()],
        invocation in singular_query(),
    ) {
        let mapping = Mapping::parse(&json!({
            "kind": "fields",
            "targetUserIds": [target, {"const": "x"}],
            "flowInvocationId": invocation,
            "variables": {"first": first, "second": second},
            "metadata": {"first": second},
        })).expect("a good mapping");
        let strict = Mapping::parse(&json!({"kind": "fields", "targetUserIds": target, "notificationDetail": whole}))
            .expect("a good mapping");
        for mapping in [mapping, strict] {
            let part = part_of(&payload, mapping.wanted());
            prop_assert_eq!(
                mapping.apply(&part, &REQUEST, || false),
                mapping.apply(&payload, &REQUEST, || false)
            );
        }
    }
}
