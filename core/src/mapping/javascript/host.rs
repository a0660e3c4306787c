//! The one `QuickJS` runtime of a thread, and the scripts that are compiled in it.
//!
//! A runtime is never freed. Freeing one ends the process when an error inside of the engine has left an object behind, and the
//! process is a database backend. After trouble its context is replaced instead, which gives back what the script held; should
//! more than [`MAX_LEFT_BYTES`] remain, the runtime is abandoned for a new one.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;

use rquickjs::context::intrinsic;
use rquickjs::{Context, Ctx, Function, Module, Persistent, Runtime, Value};

use super::super::Failure;
use super::failure::{self, Trouble};

/// With the third that the patched engine adds for small things until it stops the script: 16 MiB.
const MEMORY_BYTES: usize = 12 << 20;
/// The stack of a backend is limited to 2 MiB by default, of which much may be in use when a mapping is called.
const STACK_BYTES: usize = 192 << 10;
const MAX_SCRIPTS: usize = 64;
/// A new context takes about 0.3 MiB.
const MAX_LEFT_BYTES: i64 = 1 << 20;
/// So that a script which makes the engine lose memory ends its own service, and not the server's.
const MAX_ABANDONED: u32 = 8;
/// How scripts are called in stack traces; the name that rquickjs gives to what it evaluates.
pub(super) const FILE: &str = "eval_script";
const REALM: &str = include_str!("realm.js");

/// No typed arrays, weak references, proxies and big integers, which the realm takes away as well: each has ways to work for
/// long without asking whether to stop. Promises must be known, or async functions confuse the
/// engine; what they wait for never comes, because the patched engine queues nothing.
type Intrinsics = (
    intrinsic::Date,
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::MapSet,
    intrinsic::Promise,
);

thread_local! {
    // Without a destructor: at the end of a thread or process there is nothing to do, and much that could go wrong.
    static HOST: RefCell<Option<ManuallyDrop<Host>>> = const { RefCell::new(None) };
}

/// What the engine asks now and then.
struct Watch {
    is_interrupted: Cell<fn() -> bool>,
    /// Whether a script was told to stop since [`Watch::set`].
    was_stopped: Cell<bool>,
}

struct Host {
    /// The most recently used first.
    scripts: Vec<(Arc<str>, Persistent<Function<'static>>)>,
    context: Option<Context>,
    runtime: Runtime,
    watch: Rc<Watch>,
    /// Whether nothing has been called in the context yet.
    is_fresh: bool,
    abandoned: u32,
}

/// Checks the syntax of a script, which does not run.
pub(super) fn check(source: &Arc<str>) -> Result<(), Failure> {
    with_host(|host| {
        host.context().map_err(Trouble::into_failure)?;
        // Nothing of the script runs, so there is nothing to stop.
        host.watch.set(|| false);
        let checked = host.check(source);
        host.settle(checked.as_ref().err());
        checked.map_err(Trouble::into_failure)
    })
}

/// Calls a script's `map` with arguments in JSON; gives its result in JSON.
pub(super) fn call(
    source: &Arc<str>,
    arguments: &[String; 2],
    is_interrupted: fn() -> bool,
) -> Result<String, Failure> {
    with_host(|host| {
        host.watch.set(is_interrupted);
        let was_fresh = host.is_fresh;
        let mut called = host.call(source, arguments);
        host.settle(called.as_ref().err());
        // What earlier calls left for the collector took some of the memory; the answer must not depend on it.
        if !was_fresh && matches!(called, Err(Trouble::OutOfMemory | Trouble::Null)) {
            host.watch.set(is_interrupted);
            called = host.call(source, arguments);
            host.settle(called.as_ref().err());
        }
        called.map_err(Trouble::into_failure)
    })
}

fn with_host<T>(act: impl FnOnce(&mut Host) -> Result<T, Failure>) -> Result<T, Failure> {
    HOST.with(|host| {
        // Only a call from inside of a script could find it in use.
        let mut host = host
            .try_borrow_mut()
            .map_err(|_| Failure::new("a mapping cannot run inside of a mapping"))?;
        let host = match &mut *host {
            Some(host) => host,
            empty => empty.insert(ManuallyDrop::new(Host::new()?)),
        };
        act(host)
    })
}

impl Watch {
    fn set(&self, is_interrupted: fn() -> bool) {
        self.is_interrupted.set(is_interrupted);
        self.was_stopped.set(false);
    }

    fn ask(&self) -> bool {
        let is_interrupted = self.is_interrupted.get()();
        if is_interrupted {
            self.was_stopped.set(true);
        }
        is_interrupted
    }
}

impl Host {
    fn new() -> Result<Self, Failure> {
        let watch = Rc::new(Watch {
            is_interrupted: Cell::new(|| false),
            was_stopped: Cell::new(false),
        });
        Ok(Self {
            scripts: Vec::new(),
            context: None,
            runtime: new_runtime(&watch)?,
            watch,
            is_fresh: true,
            abandoned: 0,
        })
    }

    fn check(&mut self, source: &Arc<str>) -> Result<(), Trouble> {
        // A module is complete by itself, so its text cannot close the function that is put around it below. Modules stay with
        // their context: it is a context for this one.
        let context =
            Context::custom::<Intrinsics>(&self.runtime).map_err(|_| Trouble::OutOfMemory)?;
        context.with(|ctx| {
            Module::declare(ctx.clone(), FILE, source.as_bytes())
                .map(|_| ())
                .map_err(|_| Trouble::caught(&ctx, &self.watch.was_stopped))
        })?;
        drop(context);
        self.compiled(source).map(|_| ())
    }

    fn call(&mut self, source: &Arc<str>, arguments: &[String; 2]) -> Result<String, Trouble> {
        let script = self.compiled(source)?;
        self.is_fresh = false;
        let context = self.context()?;
        let called = context.with(|ctx| {
            run(&ctx, script, arguments)
                .unwrap_or_else(|_| Err(Trouble::caught(&ctx, &self.watch.was_stopped)))
        });
        if self.watch.was_stopped.get() {
            return Err(Trouble::Stopped);
        }
        called
    }

    fn context(&mut self) -> Result<Context, Trouble> {
        if let Some(context) = &self.context {
            return Ok(context.clone());
        }
        let context =
            Context::custom::<Intrinsics>(&self.runtime).map_err(|_| Trouble::OutOfMemory)?;
        let is_interrupted = self.watch.is_interrupted.replace(|| false);
        // A module, for its name: a stack trace through it must not point to lines of the script.
        let prepared = context.with(|ctx| {
            Module::evaluate(ctx.clone(), "realm", REALM)
                .and_then(|done| done.finish::<()>())
                .map_err(|_| Trouble::caught(&ctx, &self.watch.was_stopped))
        });
        self.watch.is_interrupted.set(is_interrupted);
        prepared?;
        self.is_fresh = true;
        Ok(self.context.insert(context).clone())
    }

    /// The function around a script, from the cache or compiled now.
    fn compiled(&mut self, source: &Arc<str>) -> Result<Persistent<Function<'static>>, Trouble> {
        let at = self
            .scripts
            .iter()
            .position(|(known, _)| Arc::ptr_eq(known, source) || known == source);
        if let Some(at) = at {
            self.scripts[..=at].rotate_right(1);
        } else {
            let context = self.context()?;
            let script = context.with(|ctx| {
                compile(&ctx, source).map_err(|_| Trouble::caught(&ctx, &self.watch.was_stopped))
            })?;
            self.scripts.truncate(MAX_SCRIPTS - 1);
            self.scripts.insert(0, (Arc::clone(source), script));
        }
        Ok(self.scripts[0].1.clone())
    }

    /// Leaves everything as the next call should find it.
    fn settle(&mut self, trouble: Option<&Trouble>) {
        let is_sound = matches!(trouble, None | Some(Trouble::Thrown(_)));
        if is_sound {
            return;
        }
        self.scripts.clear();
        self.context = None;
        self.is_fresh = true;
        self.runtime.run_gc();
        let is_clean = self.runtime.memory_usage().malloc_size < MAX_LEFT_BYTES;
        if is_clean || self.abandoned == MAX_ABANDONED {
            return;
        }
        if let Ok(runtime) = new_runtime(&self.watch) {
            self.abandoned += 1;
            std::mem::forget(std::mem::replace(&mut self.runtime, runtime));
        }
    }
}

fn new_runtime(watch: &Rc<Watch>) -> Result<Runtime, Failure> {
    let runtime = Runtime::new().map_err(|_| Failure::new("there is no memory for JavaScript"))?;
    runtime.set_memory_limit(MEMORY_BYTES);
    runtime.set_max_stack_size(STACK_BYTES);
    let watch = Rc::clone(watch);
    runtime.set_interrupt_handler(Some(Box::new(move || watch.ask())));
    Ok(runtime)
}

/// Puts a function around a script, which gives the `map` of a new top level on every call. All on the script's first line, so
/// that line numbers are the script's own.
fn compile(ctx: &Ctx<'_>, source: &str) -> rquickjs::Result<Persistent<Function<'static>>> {
    let text = format!(
        "(function(){{\"use strict\";{source}\n;return typeof map===\"function\"?map:undefined}})"
    );
    let function: Function<'_> = ctx.eval(text)?;
    Ok(Persistent::save(ctx, function))
}

/// The outer error says that an exception waits to be caught.
fn run(
    ctx: &Ctx<'_>,
    script: Persistent<Function<'static>>,
    arguments: &[String; 2],
) -> rquickjs::Result<Result<String, Trouble>> {
    let map: Value<'_> = script.restore(ctx)?.call(())?;
    let Some(map) = map.as_function() else {
        return Ok(Err(Trouble::thrown("the source defines no function map")));
    };
    let [payload, request] = arguments;
    let payload = ctx.json_parse(payload.as_str())?;
    let request = ctx.json_parse(request.as_str())?;
    let result: Value<'_> = map.call((payload, request))?;
    if result.is_promise() {
        return Ok(Err(Trouble::thrown(
            "map returns a promise, and a mapping cannot wait",
        )));
    }
    match ctx.json_stringify(result)? {
        None => Ok(Err(Trouble::thrown("map returns nothing"))),
        Some(text) => match text.to_string() {
            Err(error) if !error.is_exception() => Ok(Err(Trouble::thrown(failure::NOT_UNICODE))),
            text => text.map(Ok),
        },
    }
}
