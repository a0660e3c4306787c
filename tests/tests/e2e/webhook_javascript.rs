//! Mappings in JavaScript run inside a backend: whatever they do, it answers with an error and works on.

use actionflow_tests::{Cluster, Database, PATIENCE, Session, SqlError};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::steps::Meanwhile;
use crate::webhook_stage::{Sent, Stage};

const FINE: &str = "function map(payload) { return {targetUserIds: [payload.user], variables: {n: [1, 2].map(x => x * payload.n)}} }";

/// Memory that a backend may have needed at most, in kB: 16 MiB for JavaScript, and as much as a backend needs anyway.
const MAX_RESIDENT: u64 = 400_000;

/// Bodies of `map(payload, request)` that never end, or not before the universe.
const ENDLESS: &[&str] = &[
    "for (;;);",
    "while (true) { try { throw 1 } catch { } }",
    "let i = 0; do { i = i + 1 | 0 } while (i > -1)",
    "for (;;) { try { for (;;); } finally { continue } }",
    "return map(payload) + map(payload)",
    "return /^(a+)+$/.test('a'.repeat(64) + 'b')",
    "return /(x+x+)+y/.exec('x'.repeat(200))",
    "return 'a'.repeat(5000).match(/(.*)*(.*)*(.*)*(.*)*b/)",
    "return ('a'.repeat(100000)).replace(/(a|a)*$/g, 'b').split(/(?:(?:a*)*)*c/)",
    "return Array.from({length: 1e15}, () => 0)",
    "return Array.prototype.reverse.call({length: 2 ** 53 - 1})",
    "return Array.prototype.includes.call({length: 2 ** 53 - 1}, 1)",
    "return Array.prototype.lastIndexOf.call({length: 2 ** 53 - 1}, 1)",
    "return Array.prototype.join.call({length: 2 ** 53 - 1}, '')",
    "return Array.prototype.sort.call({length: 2 ** 40})",
    "return Array.prototype.fill.call({length: 2 ** 53 - 1}, 1)",
    "return 'a'.repeat(2 ** 21).indexOf('a'.repeat(2 ** 20) + 'b')",
    "return [...function* () { for (;;) yield* [] }()]",
    "return [3, 2, 1].sort(() => { for (;;); })",
    "return {get targetUserIds() { for (;;); }}",
    "return {toJSON() { for (;;); }}",
    "return {targetUserIds: [{toJSON() { for (;;); }}]}",
    "return new Proxy({}, {ownKeys() { for (;;); }})",
    "return new Proxy({}, {get: (t, k) => k === 'toJSON' ? undefined : 1, ownKeys: function* () { for (;;) yield 'x' }, getOwnPropertyDescriptor() { for (;;); }})",
    "const p = new Proxy({}, {getPrototypeOf: () => p}); return p instanceof function () {}",
    "throw {get message() { for (;;); }, toString() { for (;;); }}",
    "throw Object.defineProperty(new Error(), 'stack', {get() { for (;;); }})",
    "return JSON.parse('[1]', function f() { for (;;); })",
    "return ('\\u0301\\u0316'.repeat(5e5)).normalize('NFC')",
    "return new RegExp('(' + 'a|'.repeat(1e6) + ')')",
    "return new RegExp('[' + Array.from({length: 3e5}, (x, i) => String.fromCodePoint(0x1000 + (i * 7) % 50000)).join('') + ']', 'iu')",
    "return 3n ** (10n ** 9n)",
    "let a = 1n; for (;;) a = a * 3n + 1n",
    "return isNaN(+('9'.repeat(1e6) + 'e' + '9'.repeat(1e6))) || map(payload)",
];

/// Bodies that want more memory or stack than there is.
const LARGE: &[&str] = &[
    "const o = {}; for (let i = 0; ; i++) o[i] = i",
    "const o = {}; for (let i = 0; ; i++) o['k' + i] = i",
    "const a = []; for (;;) a.push((function f() {}).bind(null, a.length))",
    "const a = []; for (;;) a.push(class { static x = 1; m() {} })",
    "const a = []; for (;;) a.push(new Proxy({}, {}), new RegExp('(a|b)*' + a.length), new Error('x'), new Map([[{}, a]]))",
    "const a = []; for (;;) a.push((async () => { await 1 })(), (function* () { yield a })())",
    "for (;;) try { (() => { const a = []; for (;;) a.push(class { static x = 1; m() {} }) })() } catch { }",
    "for (;;) try { (() => { const a = []; for (;;) a.push({a}) })() } catch { }",
    "const a = []; for (;;) a.push(new Array(1e6).fill(7))",
    "const a = []; for (;;) a.push({a: {b: {c: []}}})",
    "let s = 'x'; for (;;) s += s",
    "return 'x'.repeat(2 ** 30)",
    "return 'x'.padEnd(2 ** 30, 'y')",
    "return {targetUserIds: ['x'.repeat(2 ** 21)]}",
    "return {targetUserIds: new Array(1e6).fill('x')}",
    "return new Array(4294967295).join('x')",
    "return [].concat(...new Array(1e5).fill(new Array(1e5).fill(1)))",
    "const m = new Map(); for (let i = 0; ; i++) m.set(i, 'x'.repeat(i))",
    "return JSON.stringify(new Array(1e6).fill('\\u0001'.repeat(1e3)))",
    "return new RegExp('('.repeat(1e5) + ')'.repeat(1e5))",
    "return JSON.parse('['.repeat(1e6) + ']'.repeat(1e6))",
    "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a",
    "let a = {}; for (let i = 0; i < 1e5; i++) a = {a}; return JSON.stringify(a)",
    "const a = {}; a.a = a; return a",
    "function f() { return f() + 1 } return f()",
    "const f = () => [1].map(f); return f()",
    "const o = {toString() { return `${o}` }}; return `${o}`",
    "const o = {get x() { return o.x }}; return o.x",
    "const p = new Proxy({}, {get: (t, k, r) => r[k]}); return p.x",
    "class A { constructor() { new A() } } new A()",
    "return 'a'.replace(/a/g, function f(x) { return x.replace(/a/g, f) })",
    "const f = (n) => ((a, b, c, d, e) => f([n, a, b, c, d, e]))(); return f()",
];

/// What is not there, or is no result.
const ODD: &[&str] = &[
    "return eval('1')",
    "return Function('return 1')()",
    "return (() => {}).constructor('return 1')()",
    "return (async () => {}).constructor('return 1')()",
    "return (function* () {}).constructor('yield 1')().next()",
    "return import('fs')",
    "return require('fs')",
    "return std.open('/etc/passwd', 'r').readAsString()",
    "return os.exec(['id'])",
    "return process.env",
    "return fetch('http://127.0.0.1/')",
    "return setTimeout(() => 1, 1)",
    "return console.log(1)",
    "return print(1)",
    "return Date.now()",
    "return new Date()",
    "return Math.random()",
    "return new WebAssembly.Module(new Uint8Array(8))",
    "return Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
    "Object.prototype.targetUserIds = ['x']; return {}",
    "({}).__proto__.targetUserIds = ['x']; return {}",
    "Array.prototype.map = () => 1; return {}",
    "globalThis.map = () => 1; return {}",
    "JSON.stringify = () => '{\"targetUserIds\": [\"1\"]}'; return {}",
    "return undefined",
    "return null",
    "return 7",
    "return 'text'",
    "return []",
    "return Symbol('x')",
    "return () => 1",
    "return 1n",
    "return {targetUserIds: [1n]}",
    "return {targetUserIds: ['1'], flowInvocationId: '\\ud800'}",
    "return {targetUserIds: ['1'], variables: {x: '\\u0000'}}",
    "return Promise.resolve({targetUserIds: ['1']})",
    "throw null",
    "throw undefined",
    "throw 'x'.repeat(2 ** 20)",
    "throw new Error('x'.repeat(2 ** 20))",
    "throw new Proxy({}, {})",
    "throw Object.create(null)",
    "null.x",
    "return x.y.z",
];

fn call(source: &str) -> String {
    let mapping = json!({"kind": "javascript", "source": source});
    format!("select actionflow.map_payload($json${mapping}$json$, '{{\"user\": \"7\", \"n\": 2}}')")
}

/// The answer of a backend that may hang in spite of all limits.
async fn ask(session: &Session, statement: &str) -> Result<Vec<String>, SqlError> {
    timeout(PATIENCE, session.try_rows(statement))
        .await
        .unwrap_or_else(|_| panic!("this does not end: {statement}"))
}

/// Kilobytes that a process has had in memory at most.
fn most_resident(pid: i64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the backend runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .expect("a number")
}

/// Runs each as the body of a mapping and expects an error that says something short, and the same backend to work on.
async fn survives(bodies: &[&str]) {
    let cluster = Cluster::own();
    let db = Database::within(&cluster).await;
    let pid = db.sql.number("select pg_backend_pid()").await;
    let fine = ask(&db.sql, &call(FINE)).await.expect("a mapping");
    for body in bodies {
        let source = format!("function map(payload, request) {{\n {body}\n}}");
        let error = match ask(&db.sql, &call(&source)).await {
            Err(error) => error,
            Ok(rows) => panic!("{body}\ngave {rows:?}"),
        };
        assert_eq!(error.code, "22023", "{body}: {error:?}");
        let said = error.message.len() + error.detail.len() + error.hint.len();
        assert!(said < 2_000, "{body}: {said} bytes are said");
        // Nothing is left behind, be it broken or changed.
        assert_eq!(
            ask(&db.sql, &call(FINE)).await.as_ref(),
            Ok(&fine),
            "after {body}"
        );
    }
    assert_eq!(db.sql.number("select pg_backend_pid()").await, pid);
    let resident = most_resident(pid);
    assert!(resident < MAX_RESIDENT, "{resident} kB");
}

#[tokio::test]
async fn an_endless_mapping_is_stopped_and_the_backend_works_on() {
    survives(ENDLESS).await;
}

#[tokio::test]
async fn a_mapping_that_wants_too_much_is_stopped_and_the_backend_works_on() {
    survives(LARGE).await;
}

#[tokio::test]
async fn what_a_mapping_may_not_have_or_give_is_an_error_and_changes_nothing_for_the_next() {
    survives(ODD).await;
}

#[tokio::test]
async fn errors_say_the_same_each_time_and_name_the_line() {
    let db = Database::new().await;
    let source = "function map(payload) {\n  const a = 1\n  return payload.customer.id + a\n}";
    let error = db.sql.error(&call(source)).await;
    assert!(format!("{error:?}").contains("line 3"), "{error:?}");
    assert_eq!(db.sql.error(&call(source)).await, error);
    let other = db.session().await;
    assert_eq!(other.error(&call(source)).await, error);
    let broken = db.sql.error(&call("function map() {\n  return {\n}")).await;
    assert_eq!(broken.code, "22023");
    assert!(format!("{broken:?}").contains("line "), "{broken:?}");
}

#[tokio::test]
async fn a_time_limit_of_the_statement_ends_it_with_its_own_code() {
    let db = Database::new().await;
    let pid = db.sql.number("select pg_backend_pid()").await;
    let endless = call("function map() { for (;;); }");
    db.sql.run("set statement_timeout = '20ms'").await;
    let error = ask(&db.sql, &endless).await.expect_err("endless");
    assert_eq!(error.code, "57014", "{error:?}");
    assert!(error.message.contains("statement timeout"), "{error:?}");
    db.sql.run("set statement_timeout = 0").await;
    let error = ask(&db.sql, &endless).await.expect_err("endless");
    assert_eq!(error.code, "22023", "{error:?}");
    ask(&db.sql, &call(FINE)).await.expect("a mapping");
    assert_eq!(db.sql.number("select pg_backend_pid()").await, pid);
}

/// Mappings that never end, one after the other: who cancels nearly always meets one.
fn endless_ones() -> String {
    format!(
        "do $do$ begin loop begin perform ({}); exception when invalid_parameter_value then null; end; end loop; end $do$",
        call("function map() { for (;;); }").replace("select ", "")
    )
}

#[tokio::test]
async fn a_cancelled_or_terminated_mapping_ends_as_such() {
    let mut db = Database::new().await;
    db.expect_in_log("terminating connection due to administrator command");
    for (function, code) in [
        ("pg_cancel_backend", "57014"),
        ("pg_terminate_backend", "57P01"),
    ] {
        let session = db.session().await;
        let pid = session.number("select pg_backend_pid()").await;
        let statement = endless_ones();
        let running = tokio::spawn(async move { (session.try_rows(&statement).await, session) });
        let active = format!("select state from pg_stat_activity where pid = {pid}");
        crate::scene::wait_for_rows(&db.sql, &active, &["active"]).await;
        db.sql.run(&format!("select {function}({pid})")).await;
        let (result, session) = timeout(PATIENCE, running)
            .await
            .expect("it ends")
            .expect("no panic");
        let error = result.expect_err("endless");
        assert_eq!(error.code, code, "{error:?}");
        if code == "57014" {
            ask(&session, &call(FINE)).await.expect("a mapping");
            assert_eq!(session.number("select pg_backend_pid()").await, pid);
        }
    }
}

/// As with any other error, the transaction's locks are given back at once.
#[tokio::test]
async fn a_mapping_that_is_stopped_fails_its_transaction() {
    let db = Database::new().await;
    db.sql
        .run("create table t (id int primary key); insert into t values (1)")
        .await;
    let session = db.session().await;
    session.run("begin; update t set id = 2").await;
    let other = Meanwhile::start(db.session().await, "update t set id = 3 where id = 1").await;
    other.wait_until_blocked(&db.sql).await;
    let error = ask(&session, &call("function map() { for (;;); }"))
        .await
        .expect_err("endless");
    assert_eq!(error.code, "22023");
    other.finish().await;
    assert_eq!(session.error("select 1").await.code, "25P02");
    session.run("rollback").await;
    ask(&session, &call(FINE)).await.expect("a mapping");
    assert_eq!(db.sql.text("select id from t").await, "3");
}

#[tokio::test]
async fn a_webhook_whose_mapping_is_endless_may_come_again_and_holds_nobody_up() {
    let stage = Stage::new().await;
    let script = |source: &str| json!({"mapping": {"kind": "javascript", "source": source}});
    let endless = stage.live(&script("function map() { for (;;); }")).await;
    let fine = stage
        .live(&script(
            "function map(payload) { return {targetUserIds: [payload.user]} }",
        ))
        .await;
    let sent = Sent::json(&json!({"user": "7"}));
    for _ in 0..3 {
        let response = stage.send(&endless, &sent).await;
        assert_eq!(response.status, 503);
        assert_eq!(
            response.json()["error"]["message"],
            "the mapping took too long"
        );
        assert_eq!(stage.status(&fine, &sent).await, 202);
    }
    assert_eq!(stage.run_count().await, 3);
    let reasons = stage.reasons().await;
    assert!(
        reasons
            .iter()
            .all(|reason| reason.contains("ran for too long")),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn t22_a_mapping_sees_the_request_but_no_credential() {
    let stage = Stage::new().await;
    let source = "function map(payload, request) { return {targetUserIds: [payload.user], variables: {request}} }";
    let signature = json!({"algorithm": "token", "secret": "hush", "data": {"signature": {"header": "x-shared"}}});
    let hook = stage
        .live(&json!({"signature": signature, "mapping": {"kind": "javascript", "source": source}}))
        .await;
    let mut sent = Sent::json(&json!({"user": "7"})).method("PUT");
    for (name, value) in [
        ("X-Shared", "hush"),
        ("Authorization", "hush"),
        ("Cookie", "hush"),
        ("Proxy-Authorization", "hush"),
        ("X-Tag", "one"),
        ("x-tag", "two"),
        ("__proto__", "x"),
        ("constructor", "y"),
    ] {
        sent = sent.header(name, value);
    }
    sent.query = "token=hush".to_owned();
    assert_eq!(stage.status(&hook, &sent).await, 202);
    let told = stage.receiver.wait_for_one("/crm").await.json();
    let request = &told["data"]["variables"]["request"];
    assert_eq!(
        (&request["method"], &request["headers"]["x-tag"]),
        (&json!("PUT"), &json!("one, two"))
    );
    assert_eq!(
        (
            &request["headers"]["__proto__"],
            &request["headers"]["constructor"]
        ),
        (&json!("x"), &json!("y"))
    );
    assert!(!told.to_string().contains("hush"), "{told}");
    assert_eq!(request["headers"].get("x-shared"), None::<&Value>);
}
