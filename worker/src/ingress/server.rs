//! The server: accepts connections, bounds each of them, and ends in order.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::BodyReader;
use super::failures::Failures;
use super::gate::Gate;
use super::inbound::Webhooks;
use super::proxies::TrustedProxies;
use super::routes::{Pages, router};
use super::stalled::Unstalled;
use super::stats::QueueStats;
use super::webhook::Door;
use crate::db::PgQueue;
use crate::health::Health;
use crate::telemetry::{Metrics, UnderWay};

/// After a connection could not be accepted, usually for want of a file: others have to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that may wait to be accepted. A sender beyond tries again only after a second, and the usual 128 are there within
/// milliseconds when many send at once.
const BACKLOG: u32 = 1024;

/// What is read at once, at most: a head fits, and a body comes in a few pieces.
const BUFFER_BYTES: usize = 64 * 1024;

/// What a request and a connection may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// HTTP connections at once; further ones wait to be accepted.
    pub connections: usize,
    /// From the answer before, or the connection's beginning, to the end of a request's head: so this is also how long a
    /// connection may be idle.
    pub head: Duration,
    /// The request line and the headers together. There may be 100 headers, which is the HTTP library's own limit.
    pub head_bytes: usize,
    /// From the end of the head to the end of the body.
    pub body: Duration,
    pub body_bytes: usize,
    /// How long a webhook may wait for a connection to the database.
    pub queue: Duration,
    /// How long an answer may wait for the sender to take more of it.
    pub write: Duration,
}

impl Default for Limits {
    /// A sender that is well needs none of these times: they bound what one that is not may hold. The size of the body is the
    /// database's own limit.
    fn default() -> Self {
        Self {
            connections: 1024,
            head: Duration::from_secs(10),
            head_bytes: 32 * 1024,
            body: Duration::from_secs(10),
            body_bytes: 1024 * 1024,
            queue: Duration::from_secs(5),
            write: Duration::from_secs(10),
        }
    }
}

/// A listening socket.
///
/// # Errors
/// When the address is taken, or is not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Or a restart would have to wait for the last connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The other side of the connection that a request came on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// The server, before it serves.
pub struct Ingress<W> {
    pub webhooks: Arc<W>,
    /// Calls to [`Webhooks::receive`] at once.
    pub calls: usize,
    pub proxies: TrustedProxies,
    pub limits: Limits,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    /// Asked for the queue's gauges when somebody looks at the metrics.
    pub queue: Arc<PgQueue>,
}

impl<W: Webhooks> Ingress<W> {
    /// Serves until `stop`; then accepts no more, lets what is under way end for as long as `grace`, and closes the rest.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken, grace: Duration) {
        let (limits, metrics) = (self.limits, self.metrics.clone());
        let (tasks, abort) = (TaskTracker::new(), CancellationToken::new());
        let places = Arc::new(Semaphore::new(limits.connections));
        let connections = Connections {
            router: self.router(tasks.clone()),
            limits,
            places: places.clone(),
            metrics,
            stop: stop.clone(),
            abort: abort.clone(),
        };
        let connections = Arc::new(connections);
        let accepting = async {
            loop {
                // Accepted only when there is a place: until then the operating system keeps it waiting.
                let Ok(place) = places.clone().acquire_owned().await else {
                    return;
                };
                let (stream, peer) = accept(&listener).await;
                tasks.spawn(connections.clone().serve(stream, peer, place));
            }
        };
        stop.run_until_cancelled(accepting).await;
        drop(listener);
        tasks.close();
        if timeout(grace, tasks.wait()).await.is_err() {
            tracing::info!(
                unfinished = tasks.len(),
                "some HTTP requests did not end in time and are given up"
            );
            abort.cancel();
        }
    }

    fn router(self, calls: TaskTracker) -> Router {
        let Limits {
            body, body_bytes, ..
        } = self.limits;
        let waiting = self.metrics.webhooks.queue.clone();
        let door = Door {
            webhooks: self.webhooks,
            proxies: self.proxies,
            bodies: BodyReader::new(body_bytes, body),
            gate: Gate::new(self.calls, self.limits.queue, waiting),
            metrics: self.metrics.clone(),
            calls,
            failures: Failures::default(),
        };
        let pages = Pages {
            health: self.health,
            metrics: self.metrics,
            stats: QueueStats::new(self.queue),
        };
        router(Arc::new(door), pages)
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip()),
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What all connections share.
struct Connections {
    router: Router,
    limits: Limits,
    /// A permit is a connection that may be open.
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Connections {
    async fn serve(self: Arc<Self>, stream: TcpStream, peer: IpAddr, _place: OwnedSemaphorePermit) {
        let _open = UnderWay::enter(&self.metrics.http_connections);
        // An answer is one write. Should it fail to be set, answers are slower and no less right.
        let _set = stream.set_nodelay(true);
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            let answering = router.call(request);
            async {
                let Ok(mut response) = answering.await;
                // Others wait to be accepted: whoever has an answer makes room.
                if self.places.available_permits() == 0 {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let stream = TokioIo::new(Unstalled::new(stream, self.limits.write));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // A client may end its sending side once its request is complete, and still wants the answer.
            .half_close(true)
            .header_read_timeout(self.limits.head)
            .max_header_size(self.limits.head_bytes)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.abort.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            // A sender's doing: a malformed head, a limit, a connection that it broke.
            tracing::debug!("a connection ended: {error}");
        }
    }
}
