//! Scripts that want to run or grow without end, and what must follow: a failure, and a host that works on.

use std::cell::Cell;

use actionflow_core::mapping::Mapping;
use actionflow_core::webhook::Refusal;
use serde_json::{Value, json};

use super::REQUEST;

const STOPPED: &str = "the mapping was stopped, because it ran for too long or was cancelled";
const MEMORY: &str = "the mapping needs more than its 16 MiB of memory";
const STACK: &str = "Maximum call stack size exceeded";

thread_local! {
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

/// In place of a deadline, which tests must not depend on: true after five hundred questions.
fn is_over() -> bool {
    ASKED.with(|asked| {
        asked.set(asked.get() + 1);
        asked.get() > 500
    })
}

fn attack(source: &str) -> Result<Value, String> {
    let parse = |source: &str| Mapping::parse(&json!({"kind": "javascript", "source": source}));
    let attacked = match parse(source) {
        Ok(mapping) => {
            ASKED.set(0);
            mapping
                .apply(&json!({"id": 1}), &REQUEST, is_over)
                .map_err(|failure| failure.message)
        }
        Err(error) => Err(error.to_string()),
    };
    let good =
        parse("function map(payload) { return [payload.id, ({}).x] }").expect("a good mapping");
    assert_eq!(
        good.apply(&json!({"id": 7}), &REQUEST, || false),
        Ok(json!([7, null])),
        "after {source}"
    );
    attacked
}

/// Attacks with bodies of `map`; every one must fail with one of the messages.
fn all_fail(messages: &[&str], bodies: &[&str]) {
    for body in bodies {
        let message = attack(&format!("function map(payload) {{ {body} }}")).expect_err(body);
        assert!(
            messages.iter().any(|known| message.contains(known)),
            "{body}: {message}"
        );
    }
}

#[test]
fn endless_loops_are_stopped() {
    all_fail(
        &[STOPPED],
        &[
            "for (;;);",
            "for (;;) { try { for (;;); } catch (e) {} finally { continue } }",
            "class A { static { for (;;); } }",
            "[3, 2, 1].sort(() => { for (;;); })",
            "return {get a() { for (;;); }}",
            "return {toJSON() { for (;;); }}",
            "throw new (class extends Error { get message() { for (;;); } })",
            "throw new (class extends Error { get name() { for (;;); } })",
            "const e = {valueOf() { for (;;); }}; return +e",
            "JSON.parse('[1]', () => { for (;;); })",
            "JSON.stringify([1], () => { for (;;); })",
            "'a'.replace(/a/, () => { for (;;); })",
            "for (const x of (function* () { for (;;) yield 1 })());",
            "return (function* () { for (;;) yield 1 })().drop(1e15).next()",
        ],
    );
    let message = attack("for (;;); function map() {}").expect_err("the top level does not end");
    assert_eq!(message, STOPPED);
}

#[test]
fn a_sender_may_repeat_what_was_stopped_and_nothing_else() {
    let refusal = |source: &str, is_interrupted: fn() -> bool| {
        let mapping = Mapping::parse(&json!({"kind": "javascript", "source": source}));
        let failure = mapping
            .expect("a good mapping")
            .apply(&json!({}), &REQUEST, is_interrupted)
            .expect_err("no result");
        Refusal::from(failure)
    };
    let stopped = refusal("function map() { for (;;); }", || true);
    assert_eq!(stopped.status, 503);
    assert_eq!(stopped.message, "the mapping took too long");
    assert_eq!(stopped.field, None);
    let thrown = "function map() { throw new Error('the mapping was stopped') }";
    assert_eq!(refusal(thrown, || false).status, 422);
}

#[test]
fn loops_inside_of_the_engine_are_stopped() {
    all_fail(
        &[STOPPED, MEMORY],
        &[
            "return [].reverse.call({length: 2 ** 53 - 1})",
            "return [].join.call({length: 2 ** 53 - 1}, '')",
            "return [].shift.call({length: 2 ** 53 - 1})",
            "return [].unshift.call({length: 2 ** 53 - 2}, 0)",
            "return [].splice.call({length: 2 ** 53 - 1}, 0, 1)",
            "return [].copyWithin.call({length: 2 ** 53 - 1}, 0, 1)",
            "return [].concat.call([], {length: 2 ** 53 - 1, [Symbol.isConcatSpreadable]: true})",
            "return [].includes.call({length: 2 ** 53 - 1}, 1)",
            "return [].lastIndexOf.call({length: 2 ** 53 - 1}, 1)",
            "return [].some.call({length: 2 ** 53 - 1}, x => x)",
            "const a = []; a.length = 2 ** 32 - 1; a.sort()",
            "const a = []; a.length = 2 ** 32 - 1; return a.slice(1)",
            "const a = []; a.length = 2 ** 32 - 1; return a.flat()",
            "const a = []; a.length = 2 ** 32 - 1; return a",
            "const a = []; a.length = 2 ** 32 - 1; return new Set(a)",
            "return String.raw({raw: {length: 2 ** 53 - 1}})",
            "return Array.from({length: 2 ** 32 - 1})",
        ],
    );
}

#[test]
fn work_by_size_counts_as_time() {
    all_fail(
        &[STOPPED],
        &[
            "return 'a'.repeat(4e6).indexOf('a'.repeat(2e6) + 'b')",
            "return 'a'.repeat(4e6).lastIndexOf('b' + 'a'.repeat(2e6))",
            "return 'a'.repeat(4e6).includes('a'.repeat(2e6) + 'b')",
            "return 'a'.repeat(4e6).split('a'.repeat(2e6) + 'b')",
            "return 'a'.repeat(4e6).replaceAll('a'.repeat(2e6) + 'b', '')",
            "const a = 'a'.repeat(2e6), b = 'a'.repeat(2e6); for (;;) if (a !== b) return 1",
            "const s = 'a'.repeat(1e6), o = {}; for (;;) o[s + '']",
            "const a = Array(1e4).fill(0).map((x, i) => i * 7919 % 10007); for (;;) a.toSorted()",
            "const s = JSON.stringify(Array(1e4).fill(1)); for (;;) JSON.parse(s)",
            "const o = Object.fromEntries(Array(1e4).fill(0).map((x, i) => ['k' + i, i])); for (;;) { for (const k in o) break; }",
            "let o = null; for (let i = 0; i < 1e4; i++) o = Object.create(o); for (;;) o.x",
        ],
    );
    all_fail(
        &["BigInt is too large"],
        &[
            "return 2n ** 1000000n",
            "let x = 3n; for (;;) x = x * x",
            "return 1n << 100000n",
        ],
    );
}

#[test]
fn regular_expressions_are_stopped() {
    all_fail(
        &[STOPPED, "out of memory in regexp execution"],
        &[
            "return /^(a+)+$/.test('a'.repeat(40) + 'b')",
            "return /(a|a)*b/.test('a'.repeat(40))",
            "return /^(\\w+\\s?)*$/.test('aaaa '.repeat(20) + '!')",
            "return /(?=(a+))a*b\\1/.test('a'.repeat(1e5))",
            "return 'a'.repeat(1e5).replace(/a*?b/g, '')",
            "for (;;) /a+a+a+b/.test('a'.repeat(30))",
            "return new RegExp('(?:(?:(?:a{1000}){1000}){1000}){1000}').test('a'.repeat(1e6))",
        ],
    );
    all_fail(
        &["SyntaxError", STACK],
        &[
            "return new RegExp('('.repeat(1e5))",
            "return new RegExp('(?:'.repeat(1e5) + ')'.repeat(1e5))",
        ],
    );
}

#[test]
fn memory_is_bounded() {
    all_fail(
        &[
            MEMORY,
            STOPPED,
            "string too long",
            "invalid string length",
            "too many arguments",
            "null was thrown, or",
        ],
        &[
            "const a = []; for (;;) a.push(a.length)",
            "let a = [1]; for (;;) a = a.concat(a)",
            "let a = [1]; for (;;) a.push(...a)",
            "let s = 'ab'; for (;;) s += s",
            "let s = 'ab'; for (;;) { s += s; s.charCodeAt(0) }",
            "return 'a'.repeat(2 ** 30 - 1)",
            "return 'a'.repeat(2 ** 28)",
            "return 'a'.padStart(2 ** 30)",
            "const m = new Map(); for (let i = 0; ; i++) m.set(i, {})",
            "const s = new Set(); for (let i = 0; ; i++) s.add('k' + i)",
            "const o = {}; for (let i = 0; ; i++) o['k' + i] = i",
            "const a = []; for (;;) { try { for (;;) a.push({}) } catch (e) {} }",
            "return new Array(2 ** 32 - 1).fill(0)",
            "const w = new WeakMap(), k = []; for (;;) { const o = {}; k.push(o); w.set(o, 1) }",
            "let f = () => 1; for (;;) f = f.bind(null)",
            "let o = null; for (;;) o = Object.create(o)",
            "let s = ''; for (;;) s = 'a' + s + 'b'",
            "return [...(function* () { for (;;) yield {} })()]",
        ],
    );
}

#[test]
fn what_was_left_behind_does_not_decide_about_the_next_call() {
    // Each call leaves a cycle of some MiB to the collector.
    let source = "function map() { const a = {s: Array(4e5).fill(1)}; a.a = a; return a.s.length }";
    let mapping = Mapping::parse(&json!({"kind": "javascript", "source": source})).expect("good");
    for _ in 0..20 {
        assert_eq!(
            mapping.apply(&json!(1), &REQUEST, || false),
            Ok(json!(400_000))
        );
    }
}

#[test]
fn recursion_is_bounded() {
    all_fail(
        &[STACK, "stack overflow"],
        &[
            "function f() { return f() } f()",
            "const f = (...a) => f(...a, 1); f()",
            "return JSON.parse('['.repeat(1e5))",
            "let o = {}; for (let i = 0; i < 1e4; i++) o = {o}; return o",
            "let o = []; for (let i = 0; i < 1e4; i++) o = [o]; return String(o)",
            "let o = []; for (let i = 0; i < 1e4; i++) o = [o]; return o.flat(Infinity)",
            "const o = {get a() { return this.a }}; return o.a",
            "const o = {valueOf() { return o + 1 }}; return o + 1",
            "const o = {toString() { return `${o}` }}; return `${o}`",
            "const o = {toJSON() { return [{toJSON: o.toJSON}] }}; return o",
            "const o = {get a() { return {get a() { return o.a }} }}; return JSON.stringify({get a() { return JSON.stringify(this) }})",
            "const a = [1]; a[0] = {toString() { return a.join() }}; return String(a)",
            "function* g() { yield* g() } return [...g()]",
            "class A { constructor() { return new A() } } new A()",
        ],
    );
    all_fail(
        &[STOPPED],
        &["function f() { try { f() } finally { f() } } f()"],
    );
    for source in [
        "[".repeat(30_000),
        "(".repeat(30_000),
        "!".repeat(60_000),
        "{".repeat(60_000),
        "a?".repeat(30_000),
        "`${".repeat(20_000),
        "function f(){".repeat(5_000),
        "x=>".repeat(20_000),
        " -".repeat(30_000),
        format!("/{}/", "(?:".repeat(20_000)),
        format!("var {}", "[".repeat(30_000)),
    ] {
        assert!(attack(&source).is_err(), "{source:.20}");
    }
}

#[test]
fn a_deep_result_is_freed_without_recursion() {
    let deep = "let o = {}; for (let i = 0; i < 1e4; i++) o = {o}; ";
    assert_eq!(
        attack(&format!("function map() {{ {deep} return 1 }}")),
        Ok(json!(1))
    );
}

#[test]
fn promises_neither_run_nor_stay() {
    for source in [
        "async function f() { await 0; f(); f() } function map() { f(); return 1 }",
        "async function f() { for (;;) await 0 } function map() { for (let i = 0; i < 100; i++) f(); return 1 }",
        "async function* g() { for (;;) yield 1 } function map() { g().next(); return 1 }",
        "function map() { import('fs'); return 1 }",
        "async function f() { await 0; for (;;); } function map() { f(); return 1 }",
        "async function f(n) { const x = Array(100).fill(n); await 0; return x } function map() { for (let i = 0; i < 20; i++) f(i); return 1 }",
        "function map() { (async () => {})().then(function again() { return (async () => {})().then(again) }); return 1 }",
    ] {
        for _ in 0..3 {
            assert_eq!(attack(source), Ok(json!(1)), "{source}");
        }
    }
}

#[test]
fn odd_exceptions_are_put_into_words() {
    let cases = [
        (
            "throw {toString() { for (;;); }}",
            "an object was thrown that is no Error",
        ),
        (
            "throw {get message() { throw 1 }}",
            "an object was thrown that is no Error",
        ),
        (
            "throw new (class extends Error { get stack() { throw this } })('x')",
            "Error: x",
        ),
        (
            "throw new (class extends Error { get message() { throw this } })",
            "line 1: Error",
        ),
        (
            "const e = new Error('x'); Object.defineProperty(e, 'name', {get() { throw 1 }}); throw e",
            "line 1: Error: x",
        ),
        ("throw Symbol('x')", "symbol was thrown"),
        (
            "throw null",
            "null was thrown, or the mapping needs more than its 16 MiB of memory",
        ),
        ("throw 1n", "big_int was thrown"),
        ("throw '\\ud800'", "string was thrown"),
        (
            "throw Object.create(Error.prototype)",
            "an object was thrown that is no Error",
        ),
        ("throw () => 1", "an object was thrown that is no Error"),
    ];
    for (body, message) in cases {
        assert_eq!(
            attack(&format!("function map() {{ {body} }}")),
            Err(message.to_owned()),
            "{body}"
        );
    }
    let long = attack("function map() { throw new Error('é'.repeat(1e5)) }").expect_err("throws");
    assert_eq!(long.chars().count(), 300);
}

#[test]
fn a_cancelled_call_ends_at_its_first_question() {
    let mapping =
        Mapping::parse(&json!({"kind": "javascript", "source": "function map() { for (;;); }"}))
            .expect("good");
    let failure = mapping
        .apply(&json!(1), &REQUEST, || true)
        .expect_err("cancelled");
    assert_eq!(failure.message, STOPPED);
}
