//! No call leaves anything behind for the next, of the same script or of another.

use actionflow_core::mapping::Mapping;
use serde_json::{Value, json};

use super::{REQUEST, apply};

fn script(source: &str) -> Value {
    json!({"kind": "javascript", "source": source})
}

#[test]
fn the_top_level_runs_anew_for_every_call() {
    let mapping = Mapping::parse(&script(
        "let calls = 0; var more = []; const cache = new Map();\n\
         function map(payload) { map.calls = (map.calls || 0) + 1; more.push(1); cache.set(cache.size, 1); return [++calls, map.calls, more.length, cache.size] }",
    ))
    .expect("good");
    for _ in 0..3 {
        assert_eq!(
            mapping.apply(&json!(1), &REQUEST, || false),
            Ok(json!([1, 1, 1, 1]))
        );
    }
}

#[test]
fn the_objects_of_the_language_cannot_be_changed() {
    let attempts = [
        "Object.prototype.x = 1",
        "({}).__proto__.x = 1",
        "Object.defineProperty(Object.prototype, 'x', {value: 1})",
        "Object.setPrototypeOf(Object.prototype, {x: 1})",
        "Object.prototype.toString = () => 'x'",
        "Object.prototype.__defineGetter__('x', () => 1)",
        "Array.prototype.map = null",
        "Array.prototype[0] = 1",
        "[][Symbol.iterator]().__proto__.next = () => ({done: true})",
        "(function* () {})().__proto__.__proto__.next = 1",
        "(function* () {}).__proto__.x = 1",
        "(async () => {}).__proto__.x = 1",
        "(async () => {})().__proto__.then = 1",
        "(async function* () {})().__proto__.__proto__.next = 1",
        "(() => {}).__proto__.x = 1",
        "(1n).__proto__.x = 1",
        "''.__proto__.x = 1",
        "Symbol().__proto__.x = 1",
        "/a/.__proto__.exec = 1",
        "JSON.stringify = () => '1'",
        "Math.x = 1",
        "Reflect.x = 1",
        "globalThis.x = 1",
        "delete globalThis.JSON; globalThis.JSON = 1",
        "undefined = 1",
        "Error.prototype.name = 'x'",
        "TypeError.prototype.message = 'x'",
        "Error.stackTraceLimit = 0",
        "Error.prepareStackTrace = () => 1",
        "Date.prototype.toJSON = () => 'x'",
        "Date.now = () => 1",
        "new Map().entries().__proto__.x = 1",
        "'a'.matchAll(/a/g).__proto__.x = 1",
        "[].values().map(x => x).__proto__.x = 1",
        "Iterator.from({next() {}}).__proto__.x = 1",
        "Iterator.concat([]).__proto__.x = 1",
    ];
    for attempt in attempts {
        let source = format!("function map() {{ {attempt}; return 'changed' }}");
        let failure = apply(&script(&source), &json!(1)).expect_err(attempt);
        assert!(
            failure.message.starts_with("line 1: TypeError: "),
            "{attempt}: {failure}"
        );
    }
}

/// Walks over everything that a script can reach from its globals and from the values that syntax makes.
const FIND_UNFROZEN: &str = r"
function map() {
    const start = [globalThis, function () {}, function* () {}, async function () {}, async function* () {}, (function* () {})(),
        (async function* () {})(), (async () => {})(), [], {}, '', 1, 1n, true, Symbol(), /a/, new Error(), [].values(), [].entries(),
        new Map().keys(), new Set().keys(), ''[Symbol.iterator](), 'a'.matchAll(/a/g), [].values().map(x => x), [].values().take(1),
        [].values().flatMap(x => [x]), Iterator.from({ next() {} }), Iterator.concat([]), Iterator.zip([]), Iterator.zipKeyed({}),
        (function () { return arguments })(), new Date(0), new WeakMap(), new WeakSet(), class {}, (x => x)``];
    // What syntax made here is the script's own: generators have a prototype each, zipped iterators their functions.
    const own = new Set(start.slice(1).filter(value => value instanceof Object));
    for (const index of [5, 6]) own.add(Object.getPrototypeOf(start[index]));
    for (const iterator of start) if (Object.hasOwn(Object(iterator), 'next')) own.add(iterator.next).add(iterator.return);
    const seen = new Set(), found = [];
    const visit = (value, path) => {
        if (value === null || typeof value !== 'object' && typeof value !== 'function' || seen.has(value)) return;
        seen.add(value);
        if (!own.has(value) && !Object.isFrozen(value)) found.push(path);
        if (typeof value === 'function' && own.has(value)) own.add(value.prototype);
        visit(Object.getPrototypeOf(value), path + '.__proto__');
        for (const key of Reflect.ownKeys(value)) {
            const property = Object.getOwnPropertyDescriptor(value, key);
            for (const part of ['value', 'get', 'set']) visit(property[part], path + '.' + String(key) + ':' + part);
        }
    };
    start.forEach((value, index) => visit(value instanceof Object ? value : Object(value).__proto__, String(index)));
    return { found, many: seen.size > 500 };
}";

#[test]
fn nothing_that_a_script_can_reach_is_left_unfrozen() {
    assert_eq!(
        apply(&script(FIND_UNFROZEN), &json!(1)),
        Ok(json!({"found": [], "many": true}))
    );
}

#[test]
fn ones_own_objects_may_be_called_as_one_likes() {
    let source = "function Shape() {} Shape.prototype.toString = function () { return 'shape' };\n\
                  function map(payload) {\n\
                  const counts = {}; for (const word of payload) counts[word] = (Object.hasOwn(counts, word) ? counts[word] : 0) + 1;\n\
                  const error = new TypeError('a'); error.message = 'b'; error.name = 'Mine';\n\
                  return [counts, `${new Shape()}`, `${error}`, Object.keys(counts).length] }";
    assert_eq!(
        apply(
            &script(source),
            &json!(["toString", "constructor", "toString", "x"])
        ),
        Ok(json!([{"toString": 2, "constructor": 1, "x": 1}, "shape", "Mine: b", 3]))
    );
}

#[test]
fn there_is_nothing_beside_the_language() {
    let names = "eval Function Proxy Promise BigInt ArrayBuffer SharedArrayBuffer Uint8Array DataView Atomics WeakRef FinalizationRegistry \
                 queueMicrotask setTimeout setInterval performance console print require process std os fetch XMLHttpRequest \
                 DOMException DisposableStack navigator scriptArgs load import_ structuredClone";
    for name in names.split_whitespace() {
        let source = format!("function map() {{ return typeof {name} }}");
        assert_eq!(
            apply(&script(&source), &json!(1)),
            Ok(json!("undefined")),
            "{name}"
        );
    }
    for expression in [
        "(function () {}).constructor",
        "(function* () {}).constructor",
        "(async () => {}).constructor",
        "(async function* () {}).constructor",
        "(async () => {})().constructor",
        "map.constructor",
        "Object.constructor",
        "Date.constructor",
    ] {
        let source = format!("function map() {{ return {expression}('return 1')() }}");
        let failure = apply(&script(&source), &json!(1)).expect_err(expression);
        assert!(
            failure.message.contains("TypeError: not a function"),
            "{expression}: {failure}"
        );
    }
}
