//! The HTTP endpoint that every contestant posts to: it answers 200 and remembers what arrived. A second path answers
//! only after half a minute, a third one with what an Enrich waits for.
//!
//! It runs on one thread of its own, over kept-alive HTTP/1.1, and in the driver's process, so that an arrival and a
//! commit are read from the same monotonic clock.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How long a request to the slow path waits for its answer.
pub const SLOW_ANSWER: Duration = Duration::from_secs(30);

const SLOW_PATH: &str = "/slow";

const ENRICH_PATH: &str = "/enrich";

/// What a risk engine might say.
const ENRICH_ANSWER: &str = r#"{"action":"allow","data":{"score":1}}"#;

/// What has arrived since the last [`Receiver::reset`].
#[derive(Debug, Default)]
pub struct Ledger {
    pub arrivals: u64,
    pub body_bytes: u64,
    pub first: Option<Instant>,
    pub last: Option<Instant>,
    ids: HashSet<Box<[u8]>>,
    users: Option<HashMap<String, Instant>>,
}

impl Ledger {
    /// Requests with a `webhook-id` that none before had.
    pub fn distinct(&self) -> u64 {
        self.ids.len() as u64
    }

    /// When the first request for this user arrived; known only while tracing.
    pub fn arrival_of(&self, user: &str) -> Option<Instant> {
        self.users.as_ref()?.get(user).copied()
    }

    fn record(&mut self, id: &[u8], body: &[u8]) {
        let now = Instant::now();
        self.arrivals += 1;
        self.body_bytes += body.len() as u64;
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.ids.insert(id.into());
        if let Some(users) = &mut self.users
            && let Ok(body) = serde_json::from_slice::<Value>(body)
            && let Some(user) = body["data"]["user"]["id"].as_str()
        {
            users.entry(user.to_owned()).or_insert(now);
        }
    }

    fn stats(&self) -> Value {
        let span = match (self.first, self.last) {
            (Some(first), Some(last)) => last - first,
            _ => Duration::ZERO,
        };
        json!({
            "arrivals": self.arrivals,
            "distinct": self.distinct(),
            "body_bytes": self.body_bytes,
            "seconds": span.as_secs_f64(),
        })
    }
}

/// A listening receiver; it stops with the process.
#[derive(Debug, Clone)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    hanging: AtomicU64,
}

/// Counts one request that waits for its answer, until it is dropped with the answer or with the connection.
struct Hanging<'a>(&'a AtomicU64);

impl<'a> Hanging<'a> {
    fn count(hanging: &'a AtomicU64) -> Self {
        hanging.fetch_add(1, Ordering::Relaxed);
        Self(hanging)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A panic elsewhere leaves counters that are still right, one request apart at most.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver {
    /// Binds `address` (port 0: any free one) and serves it from a new thread.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(address: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind(address).context("bind the receiver")?;
        listener.set_nonblocking(true)?;
        let receiver = Self {
            address: listener.local_addr()?,
            shared: Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::clone(&receiver.shared);
        std::thread::Builder::new()
            .name("receiver".into())
            .spawn(move || runtime.block_on(serve(listener, shared)))?;
        Ok(receiver)
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// A request to it is answered after [`SLOW_ANSWER`], and is not in the ledger.
    pub fn slow_url(&self) -> String {
        format!("http://{}{SLOW_PATH}", self.address)
    }

    /// A request to it is answered with a decision, as JSON.
    pub fn enrich_url(&self) -> String {
        format!("http://{}{ENRICH_PATH}", self.address)
    }

    /// Requests to the slow path that wait for their answer now.
    pub fn hanging(&self) -> u64 {
        self.shared.hanging.load(Ordering::Relaxed)
    }

    /// The ledger; arrivals wait while the guard is held.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }

    /// Forgets everything, and counts only.
    pub fn reset(&self) {
        *self.ledger() = Ledger::default();
    }

    /// Forgets everything, and notes from now on when each user's request arrives, which costs parsing each body.
    pub fn reset_and_trace(&self) {
        *self.ledger() = Ledger {
            users: Some(HashMap::new()),
            ..Ledger::default()
        };
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return eprintln!("failed to listen: {error:#}"),
    };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("failed to accept: {error:#}");
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("failed to set TCP_NODELAY: {error:#}");
        }
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
        tokio::spawn(async move {
            // Only a connection that its client dropped ends in an error.
            let _dropped = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        let stats = shared.ledger().stats();
        return Ok(Response::new(Full::from(stats.to_string())));
    }
    if request.uri().path() == SLOW_PATH {
        let _hanging = Hanging::count(&shared.hanging);
        tokio::time::sleep(SLOW_ANSWER).await;
        return Ok(Response::new(Full::default()));
    }
    let (head, body) = request.into_parts();
    let id = head.headers.get("webhook-id");
    // A body that breaks off belongs to a request that its sender will repeat.
    if let Ok(body) = body.collect().await {
        let id = id.map_or(&b""[..], |id| id.as_bytes());
        shared.ledger().record(id, &body.to_bytes());
    }
    if head.uri.path() == ENRICH_PATH {
        return Ok(decision());
    }
    Ok(Response::new(Full::default()))
}

fn decision() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(ENRICH_ANSWER));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
