//! What is served where.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::time::Instant;

use super::inbound::Webhooks;
use super::stats::QueueStats;
use super::webhook::Door;
use crate::health::Health;
use crate::telemetry::Metrics;

/// The text format that the metrics page is written in.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages for operators read.
pub(super) struct Pages {
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stats: QueueStats,
}

pub(super) fn router<W: Webhooks>(door: Arc<Door<W>>, pages: Pages) -> Router {
    let webhook = move |request: Request<Body>| door.clone().receive(request);
    Router::new()
        .route("/v1/webhooks/{token}", any(webhook))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(pages))
}

async fn readyz(State(pages): State<Arc<Pages>>) -> Response {
    match pages.health.unready(Instant::now()) {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    pages.stats.refresh(&pages.metrics).await;
    match pages.metrics.render() {
        Ok(page) => ([(CONTENT_TYPE, METRICS_TYPE)], page).into_response(),
        Err(error) => {
            tracing::error!("failed to write the metrics page: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
