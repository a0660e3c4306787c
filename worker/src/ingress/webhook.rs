//! One webhook: read, let in, passed to the database, answered.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::EXPECT;
use axum::http::{HeaderMap, Method, Request, Response};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::answer::{self, Refusal};
use super::body::{self, BodyReader, Received};
use super::failures::Failures;
use super::gate::{Gate, Place};
use super::inbound::{Answer, FailureKind, Inbound, Webhooks, pairs};
use super::proxies::TrustedProxies;
use super::server::Peer;
use crate::telemetry::Metrics;

/// What the paths of webhooks begin with; the token is the rest.
pub(super) const PREFIX: &str = "/v1/webhooks/";

/// How the extension makes tokens: this, and then 32 random bytes as base64url.
const TOKEN_PREFIX: &str = "afwh_";
const TOKEN_RANDOM: usize = 43;

/// Whether a token has the form of those that are given out. Others need neither their body read nor the database asked.
fn can_exist(token: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    token
        .strip_prefix(TOKEN_PREFIX)
        .is_some_and(|random| random.len() == TOKEN_RANDOM && random.bytes().all(is_base64url))
}

/// What all webhooks share.
pub(super) struct Door<W> {
    pub(super) webhooks: Arc<W>,
    pub(super) proxies: TrustedProxies,
    pub(super) bodies: BodyReader,
    pub(super) gate: Gate,
    pub(super) metrics: Arc<Metrics>,
    /// Calls under way: they end also when their sender has gone.
    pub(super) calls: TaskTracker,
    pub(super) failures: Failures,
}

impl<W: Webhooks> Door<W> {
    /// Answers a request, and counts the answer.
    pub(super) async fn receive(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let begun = Instant::now();
        let response = match self.clone().answer(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        let status = response.status().as_u16();
        self.metrics.webhooks.answered(status, begun.elapsed());
        response
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let (head, mut body) = request.into_parts();
        if ![Method::POST, Method::PUT, Method::GET, Method::HEAD].contains(&head.method) {
            return Err(Refusal::Method);
        }
        // As it is in the URL: a token has nothing to decode.
        let token = head.uri.path().strip_prefix(PREFIX).unwrap_or_default();
        if !can_exist(token) {
            self.forget(&head.headers, body);
            return Err(Refusal::Unknown);
        }
        let token = token.to_owned();
        let Received { bytes, room } = match self.bodies.read(&mut body).await {
            Ok(received) => received,
            Err(refusal) => {
                let is_left = matches!(refusal, Refusal::TooLarge | Refusal::Busy);
                if is_left {
                    self.forget(&head.headers, body);
                }
                return Err(refusal);
            }
        };
        let Some(&Peer(peer)) = head.extensions.get() else {
            return Err(Refusal::Internal);
        };
        let inbound = Inbound {
            token,
            method: head.method,
            headers: pairs(&head.headers, head.uri.query()),
            body: bytes,
            source: self.proxies.source(peer, &head.headers),
        };
        let place = self.gate.enter(&inbound.token).await?;
        let tracker = self.calls.clone();
        // A task of its own, because a sender that goes away takes the request's task along, and a call that is given up
        // would cost a connection to the database.
        let call = tracker.spawn(self.call(inbound, (place, room)));
        match call.await {
            Ok(answer) => answer::answered(answer?),
            Err(_panicked) => Err(Refusal::Internal),
        }
    }

    /// Reads the rest of a refused body. Who waits for leave to send it does not send it after a refusal.
    fn forget(&self, headers: &HeaderMap, body: Body) {
        if !headers.contains_key(EXPECT) {
            self.calls.spawn(body::drain(body));
        }
    }

    async fn call(
        self: Arc<Self>,
        inbound: Inbound,
        _held: (Place, Option<OwnedSemaphorePermit>),
    ) -> Result<Answer, Refusal> {
        let mut result = self.webhooks.receive(&inbound).await;
        if result
            .as_ref()
            .is_err_and(|f| f.kind == FailureKind::Conflict)
        {
            result = self.webhooks.receive(&inbound).await;
        }
        result.map_err(|failure| {
            self.metrics.database_errors.inc();
            let refusal = match failure.kind {
                FailureKind::Conflict | FailureKind::Unavailable => Refusal::Unavailable,
                FailureKind::Internal => Refusal::Internal,
            };
            self.failures.log(&inbound, failure);
            refusal
        })
    }
}
