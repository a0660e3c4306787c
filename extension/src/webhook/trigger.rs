//! Webhook triggers: how one is configured, and how a request finds its own.

use std::rc::Rc;

use actionflow_core::webhook::{self, Options};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::mapping;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::pg::snapshot;
use crate::validation::{check_size, random};

/// Marks the token of a webhook's URL, so that one that has leaked can be recognised.
const TOKEN_PREFIX: &str = "afwh_";

/// A webhook trigger, ready for requests.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(super) trigger_id: i64,
    pub(super) flow: String,
    pub(super) mode: TriggerMode,
    pub(super) options: Options,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TriggerMode {
    Test,
    Live,
    Disabled,
}

impl Webhook {
    /// The webhook whose URL has this token. It is found by the token's hash, by a keyed one in what this session remembers, so
    /// that the time which that takes tells nothing about tokens that exist.
    pub(super) fn find(catalog: &Catalog, token: &str) -> Result<Option<Rc<Self>>, Error> {
        if let Some(webhook) = catalog.webhook(token) {
            return Ok(Some(webhook));
        }
        let Some(webhook) = Self::load(token)? else {
            return Ok(None);
        };
        let webhook = Rc::new(webhook);
        catalog.keep_webhook(token, Rc::clone(&webhook));
        Ok(Some(webhook))
    }

    fn load(token: &str) -> Result<Option<Self>, Error> {
        Spi::connect(|_| {
            let found = snapshot::latest(
                "select w.trigger_id, w.options, t.mode, f.name
                 from actionflow._webhook as w
                 join actionflow._trigger as t on t.id = w.trigger_id
                 join actionflow._flow as f on f.id = t.flow_id
                 where w.token_hash = actionflow._webhook_hash($1)",
                &[token.into()],
            )?;
            let Some(row) = found.rows().next() else {
                return Ok(None);
            };
            let missing = || Error::Internal("a webhook trigger is incomplete".to_owned());
            let options: JsonB = row.get(2).ok_or_else(missing)?;
            let mode: String = row.get(3).ok_or_else(missing)?;
            Ok(Some(Self {
                trigger_id: row.get(1).ok_or_else(missing)?,
                flow: row.get(4).ok_or_else(missing)?,
                mode: match mode.as_str() {
                    "live" => TriggerMode::Live,
                    "test" => TriggerMode::Test,
                    _ => TriggerMode::Disabled,
                },
                options: Options::parse(&options.0)?,
            }))
        })
    }
}

/// A trigger's options after a change: as they are stored, and as people may see them; and the headers that are its secret.
#[pg_extern(volatile, parallel_safe)]
fn _webhook_options(
    old: Option<JsonB>,
    changes: Option<JsonB>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(stored, JsonB),
            name!(shown, JsonB),
            name!(credentials, Vec<String>),
        ),
    >,
    ErrorReport,
> {
    let old = old.ok_or(Error::Null("old"))?;
    let changes = changes.ok_or(Error::Null("options"))?;
    check_size("the options", &changes.0)?;
    let stored = match changes.0.as_object() {
        Some(changes) => webhook::merged(&old.0, changes),
        // To be told what is wrong with it.
        None => changes.0,
    };
    let options = Options::parse(&stored).map_err(Error::from)?;
    let credentials = options.credential_headers().to_vec();
    let shown = webhook::public_options(&stored);
    Ok(TableIterator::once((
        JsonB(stored),
        JsonB(shown),
        credentials,
    )))
}

/// A new token for a webhook's URL: 256 random bits.
#[pg_extern(volatile, parallel_unsafe)]
fn _generate_token() -> Result<String, ErrorReport> {
    let token = URL_SAFE_NO_PAD.encode(random::<32>()?);
    Ok(format!("{TOKEN_PREFIX}{token}"))
}

/// What a mapping makes of a trigger's captured sample; nothing is started.
///
/// # Errors
/// 42704 no such trigger; 55000 no sample has been captured; 22023 as `map_payload`, or the sample's body cannot be read.
#[pg_extern(volatile, parallel_unsafe)]
fn test_mapping(trigger_id: Option<i64>, mapping: Option<JsonB>) -> Result<JsonB, ErrorReport> {
    let mapping = mapping.ok_or(Error::Null("mapping"))?;
    let mapping = actionflow_core::mapping::Mapping::parse(&mapping.0).map_err(Error::from)?;
    let sample = Sample::load(trigger_id)?;
    let headers: Vec<(&str, &str)> = sample
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let payload = webhook::read_body(&headers, &sample.body)
        .map_err(|refusal| Error::Sample(refusal.reason))?;
    let payload =
        mapping::map(&mapping, &payload, &sample.method, &headers).map_err(Error::from)?;
    Ok(JsonB(payload.into_json()))
}

/// A request that was captured.
struct Sample {
    method: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Sample {
    fn load(trigger_id: Option<i64>) -> Result<Self, Error> {
        Spi::connect(|client| {
            client.select(
                "select actionflow._check_webhook_exists($1)",
                None,
                &[trigger_id.into()],
            )?;
            let found = client.select(
                "select s.method, s.headers, s.body from actionflow._webhook_sample as s
                 where s.trigger_id = $1 and s.captured_at is not null",
                None,
                &[trigger_id.into()],
            )?;
            let missing = || Error::NoSample(trigger_id.unwrap_or_default());
            let row = found.into_iter().next().ok_or_else(missing)?;
            let headers: JsonB = row.get(2)?.ok_or_else(missing)?;
            Ok(Self {
                method: row.get(1)?.ok_or_else(missing)?,
                headers: serde_json::from_value(headers.0)
                    .map_err(|_| Error::Internal("a sample has no headers".to_owned()))?,
                body: row.get(3)?.ok_or_else(missing)?,
            })
        })
    }
}
