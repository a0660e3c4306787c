use actionflow_core::input::Kind;
use actionflow_core::mapping::{Failure, Mapping, Request};
use serde_json::{Value, json};

use super::{REQUEST, refused};

fn script(source: &str) -> Value {
    json!({"kind": "javascript", "source": source})
}

fn run(source: &str, payload: &Value) -> Result<Value, String> {
    super::apply(&script(source), payload).map_err(|Failure { field, message, .. }| {
        assert_eq!(field, None);
        message
    })
}

fn result_of(expression: &str) -> Result<Value, String> {
    run(
        &format!("function map(payload) {{ return {expression} }}"),
        &json!({"n": 3}),
    )
}

#[test]
fn a_script_maps_the_payload() {
    let source = "const plans = {p1: 'pro'};\nfunction map(payload, request) {\n    return {\n        targetUserIds: payload.users.map(user => user.id),\n        \
                  variables: {plan: plans[payload.plan], at: new Date(payload.at * 1000).toISOString(), from: request.headers['x-from'], method: request.method},\n    };\n}";
    let mapping = Mapping::parse(&script(source)).expect("a good mapping");
    let request = Request {
        method: "PUT",
        headers: &[
            ("X-From", "a"),
            ("Accept", "*/*"),
            ("x-from", "b"),
            ("__proto__", "c"),
        ],
    };
    let payload = json!({"users": [{"id": "u1"}, {"id": 2}], "plan": "p1", "at": 1_600_000_000, "__proto__": 1});
    assert_eq!(
        mapping.apply(&payload, &request, || false),
        Ok(json!({
            "targetUserIds": ["u1", 2],
            "variables": {"plan": "pro", "at": "2020-09-13T12:26:40.000Z", "from": "a, b", "method": "PUT"},
        }))
    );
}

#[test]
fn results_are_what_json_stringify_writes() {
    let cases = [
        (
            "({a: undefined, b() {}, c: Symbol(), d: [undefined, () => 1], e: NaN, f: -0, g: 1e400})",
            json!({"d": [null, null], "e": null, "f": 0, "g": null}),
        ),
        ("({toJSON() { return [1] }})", json!([1])),
        (
            "[1.5, '\\u0000', null, 'é☺😀']",
            json!([1.5, "\0", null, "é☺😀"]),
        ),
        ("({get a() { return payload.n }})", json!({"a": 3})),
        ("JSON.parse('{\"__proto__\": 1}')", json!({"__proto__": 1})),
        ("new Map([[1, 2]])", json!({})),
        (
            "123456789012345680000",
            json!(123_456_789_012_345_680_000_u128),
        ),
    ];
    for (expression, expected) in cases {
        assert_eq!(
            result_of(expression).map(|v| v.to_string()),
            Ok(expected.to_string()),
            "{expression}"
        );
    }
}

#[test]
fn what_json_cannot_hold_is_a_failure() {
    let cases = [
        ("undefined", "map returns nothing"),
        ("() => 1", "map returns nothing"),
        ("10n", "TypeError: BigInt are forbidden in JSON.stringify"),
        (
            "(() => { const a = {}; a.a = [a]; return a })()",
            "TypeError: circular reference",
        ),
        (
            "'\\ud800'",
            "the result holds a text that is not Unicode: half of a surrogate pair",
        ),
        (
            "({'a\\udc00': 1})",
            "the result holds a text that is not Unicode: half of a surrogate pair",
        ),
        (
            "(() => { let a = []; for (let i = 0; i < 200; i++) a = [a]; return a })()",
            "the result nests too deeply",
        ),
        (
            "'a'.repeat(1048575)",
            "the result is over the limit of 1048576 bytes",
        ),
        (
            "(async () => 1)()",
            "map returns a promise, and a mapping cannot wait",
        ),
        (
            "new Date(NaN).toISOString()",
            "line 1: RangeError: Date value is NaN",
        ),
    ];
    for (expression, message) in cases {
        assert_eq!(
            result_of(expression),
            Err(message.to_owned()),
            "{expression}"
        );
    }
    assert!(result_of("'a'.repeat(1048574)").is_ok());
}

#[test]
fn errors_name_their_line() {
    let cases = [
        (
            "function map(payload) {\n  const a = payload.a;\n  return a.b;\n}",
            "line 3: TypeError: cannot read property 'b' of undefined",
        ),
        (
            "function map() {\n  throw new RangeError('no plan');\n}",
            "line 2: RangeError: no plan",
        ),
        (
            "\n\nnothing.here();\nfunction map() {}",
            "line 3: ReferenceError: nothing is not defined",
        ),
        (
            "function map() {\n  return new Date();\n}",
            "line 2: TypeError: a mapping has no clock: give the time to new Date(…)",
        ),
        (
            "function map() {\n  x = 1;\n}",
            "line 2: ReferenceError: x is not defined",
        ),
        ("function map() { throw 'no' }", "\"no\" was thrown"),
        ("function map() { throw 1.5 }", "1.5 was thrown"),
        (
            "function map() { throw {} }",
            "an object was thrown that is no Error",
        ),
        ("function map() { throw undefined }", "undefined was thrown"),
        (
            "function map() { throw new Error('a\\u0000b\\nc') }",
            "line 1: Error: a b c",
        ),
        (
            "class Odd extends Error { name = 'Odd' } function map() { throw new Odd('x') }",
            "line 1: Odd: x",
        ),
        ("const other = 1", "the source defines no function map"),
    ];
    for (source, message) in cases {
        for _ in 0..2 {
            assert_eq!(run(source, &json!({})), Err(message.to_owned()), "{source}");
        }
    }
}

#[test]
fn syntax_is_checked_when_the_mapping_is_saved() {
    let cases = [
        ("function map(\n", "line 2: SyntaxError: "),
        ("function map() {\n  return {\n}", "line 3: SyntaxError: "),
        ("}), (function () {", "line 1: SyntaxError: "),
        ("} (globalThis.x = 1), {", "line 1: SyntaxError: "),
        ("} [x()] = function () {", "line 1: SyntaxError: "),
        ("return 1", "line 1: SyntaxError: "),
        (
            "import x from 'fs'",
            "ReferenceError: could not load module 'fs'",
        ),
        ("export function map() {}", "line 1: SyntaxError: "),
        ("await 1", "line 1: SyntaxError: "),
        ("with (Math) { map = sin }", "line 1: SyntaxError: "),
        ("let a = 1;\nlet a = 2", "line 2: SyntaxError: "),
        ("a<!--b; {\n", "the source holds \"<!--\""),
        ("x\n--> }", "the source holds \"<!--\""),
        ("a\0b", "the source holds the character U+0000"),
    ];
    for (source, message) in cases {
        let error = refused(&script(source));
        assert_eq!(error.path, "$.source", "{source}");
        assert!(
            error
                .to_string()
                .starts_with(&format!("invalid mapping: {message}")),
            "{source}: {error}"
        );
    }
    // Nothing runs before the first call.
    assert!(
        Mapping::parse(&script(
            "for (;;); function map() {} // no newline at the end"
        ))
        .is_ok()
    );
}

#[test]
fn the_mapping_itself_is_read_strictly() {
    assert!(matches!(
        refused(&json!({"kind": "javascript"})).kind,
        Kind::MissingKey("source")
    ));
    assert!(matches!(
        refused(&json!({"kind": "javascript", "source": 1})).kind,
        Kind::WrongType { .. }
    ));
    assert!(matches!(
        refused(&json!({"kind": "javascript", "source": "", "code": ""})).kind,
        Kind::UnknownKey { .. }
    ));
    let long = "x".repeat((64 << 10) + 1);
    assert!(matches!(
        refused(&script(&long)).kind,
        Kind::TooLarge { .. }
    ));
    let longest = format!("function map() {{ return 1 }} // {}", "é".repeat(32_000));
    assert_eq!(run(&longest, &json!({})), Ok(json!(1)));
}

#[test]
fn dates_are_in_utc_and_there_is_no_clock() {
    let cases = [
        (
            "new Date(2020, 0, 31, 12).toISOString()",
            json!("2020-01-31T12:00:00.000Z"),
        ),
        (
            "new Date('2020-01-31T12:00:00').toISOString()",
            json!("2020-01-31T12:00:00.000Z"),
        ),
        (
            "new Date('2020-01-31T12:00:00+02:00').toISOString()",
            json!("2020-01-31T10:00:00.000Z"),
        ),
        ("new Date('2020-01-31').getHours()", json!(0)),
        (
            "new Date('Jan 31 2020').toISOString()",
            json!("2020-01-31T00:00:00.000Z"),
        ),
        (
            "new Date('Fri, 31 Jan 2020 12:00:00 GMT').getTime()",
            json!(1_580_472_000_000_i64),
        ),
        (
            "new Date('Fri, 31 Jan 2020 12:00:00 +0200').toISOString()",
            json!("2020-01-31T10:00:00.000Z"),
        ),
        (
            "String(new Date(0))",
            json!("Thu, 01 Jan 1970 00:00:00 GMT"),
        ),
        (
            "(() => { const d = new Date(0); d.setHours(5); return d.getUTCHours() + d.getTimezoneOffset() })()",
            json!(5),
        ),
        (
            "Date.UTC(2020, 0) + Date.parse('2020')",
            json!(2 * 1_577_836_800_000_i64),
        ),
        (
            "[typeof Date.now, typeof performance, typeof Math.random, new Date(0) instanceof Date]",
            json!(["undefined", "undefined", "undefined", true]),
        ),
        (
            "new (class extends Date { year() { return this.getFullYear() } })(0).year()",
            json!(1970),
        ),
        ("new Date(new Date(5)).getTime()", json!(5)),
        ("new Date('nonsense').getTime()", json!(null)),
    ];
    for (expression, expected) in cases {
        assert_eq!(result_of(expression), Ok(expected), "{expression}");
    }
    for expression in [
        "new Date()",
        "Date()",
        "Date(0)",
        "Reflect.construct(Date, [])",
    ] {
        let message = result_of(expression).expect_err("has no clock");
        assert!(message.contains("a mapping has no clock"), "{message}");
    }
}

#[test]
fn more_scripts_than_are_kept_all_work() {
    let mappings: Vec<Mapping> = (0..150)
        .map(|i| {
            Mapping::parse(&script(&format!("function map() {{ return {i} }}"))).expect("good")
        })
        .collect();
    for _ in 0..2 {
        for (i, mapping) in mappings.iter().enumerate() {
            assert_eq!(
                mapping.apply(&json!(null), &REQUEST, || false),
                Ok(json!(i))
            );
        }
    }
}
