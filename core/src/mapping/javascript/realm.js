// Runs once in every new context, before any mapping: takes away what a mapping must not have, and freezes the rest, so that one
// call cannot leave anything behind for the next.
(function () {
    "use strict";
    const global = globalThis;
    const { defineProperty, freeze, getOwnPropertyDescriptor, getPrototypeOf } = Object;
    const { apply, construct, deleteProperty, ownKeys } = Reflect;
    // Also what is taken away below: literals and async functions lead to some of it.
    const everything = ownKeys(global).map((key) => global[key]);

    // No code from text, however its makers are reached.
    const prototypes = [
        function () {},
        function* () {},
        async function () {},
        async function* () {},
    ].map(getPrototypeOf);
    for (const prototype of [...prototypes, Promise.prototype]) deleteProperty(prototype, "constructor");

    // Time is an argument: a date is made from what the payload says, and read in UTC wherever the server stands.
    const Native = Date;
    const utc = Native.UTC;
    const nativeParse = Native.parse;
    const zoned = /(?:z|gmt|utc?|[+-]\d\d:?\d\d)\s*(?:\(.*\))?$/i;
    const iso = /^\s*[+-]?\d{4,6}-\d\d/;
    const test = RegExp.prototype.test;
    const parse = function parse(text) {
        const given = `${text}`;
        if (apply(test, zoned, [given])) return nativeParse(given);
        const time = nativeParse(given + (apply(test, iso, [given]) ? "Z" : " UTC"));
        return time === time ? time : nativeParse(given);
    };
    const UtcDate = function Date(...parts) {
        if (new.target === undefined || parts.length === 0) {
            throw new TypeError("a mapping has no clock: give the time to new Date(…)");
        }
        let time = parts[0];
        if (parts.length > 1) {
            time = apply(utc, undefined, parts);
        } else if (typeof time === "string") {
            time = parse(time);
        }
        return construct(Native, [time], new.target);
    };
    const prototype = Native.prototype;
    UtcDate.prototype = prototype;
    prototype.constructor = UtcDate;
    UtcDate.parse = parse;
    UtcDate.UTC = utc;
    for (const part of ["Day", "Date", "Month", "FullYear", "Hours", "Minutes", "Seconds", "Milliseconds"]) {
        prototype["get" + part] = prototype["getUTC" + part];
        if (part !== "Day") prototype["set" + part] = prototype["setUTC" + part];
    }
    prototype.getTimezoneOffset = function getTimezoneOffset() {
        return 0;
    };
    prototype.toString = prototype.toLocaleString = prototype.toUTCString;
    for (const key of ["toDateString", "toTimeString", "toLocaleDateString", "toLocaleTimeString", "getYear", "setYear"]) {
        deleteProperty(prototype, key);
    }
    global.Date = UtcDate;

    deleteProperty(Math, "random");
    deleteProperty(Array, "fromAsync");
    // Error's own settings live outside of its properties, where freezing does not reach.
    for (const key of ["captureStackTrace", "prepareStackTrace", "stackTraceLimit"]) deleteProperty(Error, key);

    const kept = [
        "Array", "Boolean", "Date", "Error", "EvalError", "Infinity", "InternalError", "Iterator", "JSON", "Map", "Math", "NaN",
        "Number", "Object", "RangeError", "ReferenceError", "Reflect", "RegExp", "Set", "String", "Symbol", "SyntaxError",
        "TypeError", "URIError", "WeakMap", "WeakSet", "decodeURI", "decodeURIComponent", "encodeURI", "encodeURIComponent",
        "globalThis", "isFinite", "isNaN", "parseFloat", "parseInt", "undefined",
    ];
    for (const key of ownKeys(global)) {
        if (!kept.includes(key)) deleteProperty(global, key);
    }

    // A frozen property cannot be assigned to in an object that inherits it; an accessor can give that object its own.
    const allowOverride = (owner, key) => {
        const property = getOwnPropertyDescriptor(owner, key);
        if (!("value" in property)) return;
        const { value } = property;
        defineProperty(owner, key, {
            get() {
                return value;
            },
            set(own) {
                if (this === owner) throw new TypeError(`'${String(key)}' is read-only`);
                defineProperty(this, key, { value: own, writable: true, enumerable: true, configurable: true });
            },
        });
    };
    for (const key of ownKeys(Object.prototype)) allowOverride(Object.prototype, key);
    for (const name of kept) {
        const owner = global[name];
        if (typeof owner === "function" && (owner === Error || getPrototypeOf(owner) === Error)) {
            for (const key of ownKeys(owner.prototype)) allowOverride(owner.prototype, key);
        }
    }

    const pending = [
        global,
        ...everything,
        ...prototypes,
        // Objects that no name leads to.
        ...[
            [][Symbol.iterator](),
            ""[Symbol.iterator](),
            new Map()[Symbol.iterator](),
            new Set()[Symbol.iterator](),
            "".matchAll(/a/g),
            Iterator.from({ next() {} }),
            [].values().map((value) => value),
            Iterator.concat([]),
            Iterator.zip([]),
            Iterator.zipKeyed({}),
            async function* () {}.prototype,
        ].map(getPrototypeOf),
    ];
    const seen = new Set();
    while (pending.length > 0) {
        const object = pending.pop();
        if (object === null || (typeof object !== "object" && typeof object !== "function") || seen.has(object)) continue;
        seen.add(object);
        freeze(object);
        pending.push(getPrototypeOf(object));
        for (const key of ownKeys(object)) {
            const { value, get, set } = getOwnPropertyDescriptor(object, key);
            pending.push(value, get, set);
        }
    }
})();
