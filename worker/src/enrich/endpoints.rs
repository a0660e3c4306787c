//! Endpoint settings, kept while they are current and asked for again before a replaced secret expires.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actionflow_core::enrich::reply::FailureKind;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Head, Rendezvous};
use crate::db::DbError;
use crate::deliver::{Endpoint, MAX_ENDPOINTS, Target, Targets};
use crate::telemetry::Metrics;

/// A secret that was replaced expires without a new revision; this much later at the latest it is no longer signed with.
const FRESH: Duration = Duration::from_secs(60);

/// How long settings serve on when asking for new ones has begun, before that is tried again.
const REFRESH_TRY: Duration = Duration::from_secs(5);

/// Why a request has no endpoint: the kind of failure, and a message for people.
pub(super) type Missing = (FailureKind, &'static str);

/// The endpoints of enrich requests.
pub(super) struct Endpoints<R> {
    rendezvous: Arc<R>,
    metrics: Arc<Metrics>,
    known: Mutex<HashMap<i64, Arc<Place>>>,
}

/// What is known of one endpoint.
#[derive(Default)]
struct Place {
    current: Mutex<Option<Known>>,
    /// Held while settings are asked for: whoever needs them meanwhile waits for that answer.
    asking: tokio::sync::Mutex<()>,
}

struct Known {
    settings: String,
    revision: i64,
    targets: Targets,
    /// When these settings were asked for.
    asked_at: Instant,
    refresh_at: Instant,
}

/// The one setting that matters here and not to a delivery.
#[derive(Deserialize)]
struct Revision {
    revision: i64,
}

/// What a look at the known settings found.
enum Found {
    Current(Arc<Target>),
    /// Usable, and due to be asked for again.
    Old(Arc<Target>),
    Nothing,
}

impl<R: Rendezvous> Endpoints<R> {
    pub(super) fn new(rendezvous: Arc<R>, metrics: Arc<Metrics>) -> Self {
        Self {
            rendezvous,
            metrics,
            known: Mutex::default(),
        }
    }

    /// Where this request goes, with settings that are at least as new as its caller saw them.
    ///
    /// # Errors
    /// When there is no such endpoint, or the database cannot be asked.
    pub(super) async fn target(self: &Arc<Self>, head: &Head) -> Result<Arc<Target>, Missing> {
        let place = self.place(head.endpoint_id);
        match place.find(head, None) {
            Found::Current(target) => Ok(target),
            Found::Old(target) => {
                self.refresh(head.endpoint_id, place);
                Ok(target)
            }
            Found::Nothing => self.ask(head, &place).await,
        }
    }

    async fn ask(&self, head: &Head, place: &Place) -> Result<Arc<Target>, Missing> {
        let asked_at = Instant::now();
        // No request waits here once an endpoint is known.
        let _asking = place.asking.lock().await;
        if let Found::Current(target) | Found::Old(target) = place.find(head, Some(asked_at)) {
            return Ok(target);
        }
        let fetched = self.fetch(head.endpoint_id, place).await;
        fetched.map_err(|error| {
            self.complain(error, head.endpoint_id);
            (
                FailureKind::Internal,
                "the worker could not read the endpoint's settings",
            )
        })?;
        match place.lock().as_mut() {
            // Even when they are older than the caller's: it may have changed them in its own transaction.
            Some(known) => Ok(known.targets.at(&head.url)),
            None => Err((
                FailureKind::Unsendable,
                "there is no such endpoint, or it was created in a transaction that has not ended",
            )),
        }
    }

    /// Asks again while requests go on with what is known.
    fn refresh(self: &Arc<Self>, endpoint_id: i64, place: Arc<Place>) {
        let endpoints = self.clone();
        tokio::spawn(async move {
            if let Ok(_asking) = place.asking.try_lock()
                && let Err(error) = endpoints.fetch(endpoint_id, &place).await
            {
                endpoints.complain(error, endpoint_id);
            }
        });
    }

    async fn fetch(&self, endpoint_id: i64, place: &Place) -> Result<(), DbError> {
        let asked_at = Instant::now();
        let settings = self.rendezvous.endpoint(endpoint_id).await?;
        let mut current = place.lock();
        let before = current.take();
        *current = settings.map(|settings| {
            let known = match before {
                Some(known) if known.settings == settings => known,
                _ => self.read(settings, asked_at),
            };
            Known {
                asked_at,
                refresh_at: asked_at + FRESH,
                ..known
            }
        });
        Ok(())
    }

    fn read(&self, settings: String, asked_at: Instant) -> Known {
        let revision = serde_json::from_str(&settings).map(|r: Revision| r.revision);
        Known {
            // Without one they are as old as can be, and asked for again by the next request.
            revision: revision.unwrap_or(i64::MIN),
            targets: Targets::new(Endpoint::read(&settings, &self.metrics)),
            settings,
            asked_at,
            refresh_at: asked_at,
        }
    }

    fn place(&self, endpoint_id: i64) -> Arc<Place> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ENDPOINTS && !known.contains_key(&endpoint_id) {
            known.clear();
        }
        known.entry(endpoint_id).or_default().clone()
    }

    fn complain(&self, error: DbError, endpoint_id: i64) {
        self.metrics.database_errors.inc();
        let error = anyhow::Error::new(error).context("read an endpoint's settings");
        tracing::warn!(endpoint_id, "failed to {error:#}");
    }
}

impl Place {
    /// Settings of the wanted revision or a later one, or any that were asked for after `asked_at`.
    fn find(&self, head: &Head, asked_at: Option<Instant>) -> Found {
        let mut current = self.lock();
        let is_usable = |known: &&mut Known| {
            known.revision >= head.endpoint_revision
                || asked_at.is_some_and(|asked_at| known.asked_at >= asked_at)
        };
        let Some(known) = current.as_mut().filter(is_usable) else {
            return Found::Nothing;
        };
        let target = known.targets.at(&head.url);
        let now = Instant::now();
        match now < known.refresh_at {
            true => Found::Current(target),
            false => {
                known.refresh_at = now + REFRESH_TRY;
                Found::Old(target)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
