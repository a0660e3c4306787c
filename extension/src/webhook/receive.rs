//! `receive_webhook`: from a request to started runs, in one transaction.

use std::net::IpAddr;
use std::rc::Rc;

use actionflow_core::payload::TriggerPayload;
use actionflow_core::signature::{Rejection, Request};
use actionflow_core::webhook::{self, Greeting, Handshake, MAX_BODY_BYTES, Refusal};
use pgrx::JsonB;
use pgrx::datum::Inet;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};

use super::mapping;
use super::trigger::{TriggerMode, Webhook};
use crate::catalog;
use crate::clock;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::Mode;
use crate::flows::{Answer, Start, Status, start_payloads};
use crate::pg::call::Call;
use crate::pg::jsonb;
use crate::pg::jsonb_reader::header_pairs;
use crate::runs;

/// What is kept of a refused request's content type and method, in bytes.
const MAX_KEPT_BYTES: usize = 100;

/// A request as it has arrived.
struct Received<'a> {
    method: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
    address: Option<IpAddr>,
    /// In microseconds since 1970.
    at: i64,
}

/// An answer to the sender: an object is JSON, a text is `text/plain`, null is no body.
struct Reply {
    status: u16,
    response: Value,
}

/// Why a request starts nothing: what it says, or what happened here.
enum Stop {
    Refused(Refusal),
    Failed(Error),
}

/// Takes a request to a webhook's URL, and starts what it triggers.
///
/// `status` is the HTTP status for the sender and `response` the body: JSON, or `text/plain` when it is a JSON string. Volatile: it
/// writes. A request that is refused is an answer and no error, so that the transaction commits what is kept of it.
///
/// # Errors
/// 25006 in a read-only transaction, as all are on a standby.
#[pg_extern(
    sql = "create function actionflow.receive_webhook(token text, method text, headers jsonb, body bytea, remote_addr inet)
returns table (status int, response jsonb) language c volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp as 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
pub(crate) fn receive_webhook(
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<TableIterator<'static, (name!(status, i32), name!(response, Option<JsonB>))>, ErrorReport>
{
    let call = Call::new(fcinfo);
    let token: &str = call.argument(0).unwrap_or_default();
    let at = clock::wall_now()?;
    let answer = |headers: &[(&str, &str)]| {
        let request = Received {
            method: call.argument(1).unwrap_or_default(),
            headers,
            body: call.argument(3).unwrap_or_default(),
            address: call.argument::<Inet>(4).and_then(|text| address(&text)),
            at,
        };
        receive(token, &request)
    };
    let reply = match call.datum(2) {
        None => answer(&[]),
        Some(headers) => {
            jsonb::with_bytes(headers, |headers| answer(&header_pairs(headers, |_| true)))
        }
    }?;
    let response = Some(reply.response).filter(|response| !response.is_null());
    Ok(TableIterator::once((
        i32::from(reply.status),
        response.map(JsonB),
    )))
}

/// Postgres writes a host of a network with the network's length.
fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

fn receive(token: &str, request: &Received<'_>) -> Result<Reply, Error> {
    let catalog = catalog::current()?;
    let Some(webhook) = Webhook::find(&catalog, token)? else {
        return Ok(Reply::refused(&Refusal::new(
            404,
            "there is no such webhook",
        )));
    };
    match handle(&webhook, request) {
        Ok(reply) => Ok(reply),
        Err(Stop::Refused(refusal)) => {
            note(&webhook, request, &refusal)?;
            Ok(Reply::refused(&refusal))
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn handle(webhook: &Webhook, request: &Received<'_>) -> Result<Reply, Stop> {
    let options = &webhook.options;
    let mode = match webhook.mode {
        TriggerMode::Disabled => return Err(Refusal::new(409, "this webhook is disabled").into()),
        TriggerMode::Test => Mode::Test,
        TriggerMode::Live => Mode::Live,
    };
    if !options.allowed_ips.permits(request.address) {
        let from = request
            .address
            .map_or_else(|| "nowhere".to_owned(), |ip| ip.to_string());
        return Err(Refusal::new(403, "this address may not send here")
            .because(from)
            .into());
    }
    if !matches!(request.method, "POST" | "PUT") {
        return greet(webhook, request);
    }
    if request.body.len() > MAX_BODY_BYTES {
        return Err(Refusal::new(413, "the body is larger than 1 MiB").into());
    }
    let verified = verify(webhook, request);
    // Nothing is read of a body that may come from anybody.
    let body = verified
        .as_ref()
        .map_err(|rejection| Refusal::new(401, "the signature does not fit").because(rejection))
        .and_then(|()| webhook::read_body(request.headers, request.body));
    if let Ok(body) = &body
        && let Some(greeting) = answer(webhook, request, body)?
    {
        return Ok(greeting.into());
    }
    if mode == Mode::Test && capture(webhook, request, verified.as_ref().err())? {
        let response = json!({"data": {"captured": true}});
        return Ok(Reply {
            status: 202,
            response,
        });
    }
    let body = body?;
    let headers = webhook::without_credentials(request.headers, options.credential_headers());
    let payload =
        mapping::map(&options.mapping, &body, request.method, &headers).map_err(Refusal::from)?;
    let senders_id = match payload.flow_invocation_id {
        Some(_) => None,
        None => {
            let signature = options.signature.as_ref();
            signature.and_then(|signature| signature.request_id(&request.signed()))
        }
    };
    start(webhook, mode, payload, senders_id)
}

/// What may come without a body, and so without a signature: a sender who asks whether this is the receiver.
fn greet(webhook: &Webhook, request: &Received<'_>) -> Result<Reply, Stop> {
    let greeting = match &webhook.options.handshake {
        None => None,
        Some(handshake) => handshake.greet(request.method, request.headers)?,
    };
    greeting
        .map(Reply::from)
        .ok_or_else(|| Refusal::new(405, "use POST or PUT").into())
}

/// The answer to a sender who asks in a signed body.
fn answer(
    webhook: &Webhook,
    request: &Received<'_>,
    body: &Value,
) -> Result<Option<Greeting>, Refusal> {
    let options = &webhook.options;
    options.handshake.as_ref().map_or(Ok(None), |handshake| {
        handshake.greet_signed(request.headers, body, options.signature.as_ref())
    })
}

fn verify(webhook: &Webhook, request: &Received<'_>) -> Result<(), Rejection> {
    let signature = webhook.options.signature.as_ref();
    signature.map_or(Ok(()), |signature| signature.verify(&request.signed()))
}

/// Keeps the request as the trigger's sample, if one is waited for. Its signature need not fit: it may be what is to be configured.
fn capture(
    webhook: &Webhook,
    request: &Received<'_>,
    rejection: Option<&Rejection>,
) -> Result<bool, Error> {
    let headers =
        webhook::without_credentials(request.headers, webhook.options.credential_headers());
    let captured = Spi::get_one_with_args(
        "select actionflow._capture($1, $2, $3, $4, $5)",
        &[
            webhook.trigger_id.into(),
            request.method.into(),
            JsonB(json!(headers)).into(),
            request.body.into(),
            rejection.map(ToString::to_string).into(),
        ],
    )?;
    Ok(captured.unwrap_or_default())
}

/// Starts the flow. The sender's own id is known apart for each trigger: another sender may count in the same way.
fn start(
    webhook: &Webhook,
    mode: Mode,
    payload: TriggerPayload,
    senders_id: Option<String>,
) -> Result<Reply, Stop> {
    let mut engine = Engine::new()?;
    let flow = Rc::clone(engine.catalog.flow(&webhook.flow).map_err(inactive)?);
    let key = senders_id
        .as_ref()
        .map(|id| format!("{}:{id}", webhook.trigger_id));
    let invocation_id = payload
        .flow_invocation_id
        .clone()
        .or(senders_id)
        .unwrap_or_else(runs::generated_invocation_id);
    let start = Start {
        flow: &flow,
        mode,
        trigger_id: Some(webhook.trigger_id),
        shared_invocation: Some(&invocation_id),
        shared_key: key.as_deref(),
    };
    let answers = start_payloads(&mut engine, &start, &[payload]).map_err(inactive)?;
    engine.finish()?;
    let handshake = webhook.options.handshake.as_ref();
    Ok(match handshake.and_then(Handshake::receipt) {
        Some(receipt) => receipt.into(),
        None => Reply::started(&invocation_id, &answers),
    })
}

/// What a start can fail with by what the flow or the payload is, as a refusal.
fn inactive(error: Error) -> Stop {
    let refusal = match &error {
        Error::ArchivedFlow(_) | Error::UnpublishedFlow(_) | Error::NoSuchFlow(_) => {
            Refusal::new(409, "this webhook is not active")
        }
        Error::MissingVariable { variable, .. } => {
            Refusal::new(422, "a required variable is missing")
                .in_field(&format!("variables.{variable}"))
        }
        _ => return Stop::Failed(error),
    };
    Stop::Refused(refusal.because(error))
}

/// Counts a refused request, and keeps what the owner may want to know of it.
fn note(webhook: &Webhook, request: &Received<'_>, refusal: &Refusal) -> Result<(), Error> {
    let content_type = webhook::header(request.headers, "content-type");
    Spi::run_with_args(
        "select actionflow._note_rejection($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            webhook.trigger_id.into(),
            i32::from(refusal.status).into(),
            refusal.reason.as_str().into(),
            refusal.field.as_deref().map(beginning).into(),
            beginning(request.method).into(),
            content_type.map(beginning).into(),
            i32::try_from(request.body.len()).unwrap_or(i32::MAX).into(),
            request.address.map(|ip| Inet(ip.to_string())).into(),
        ],
    )?;
    Ok(())
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_KEPT_BYTES)]
}

impl<'a> Received<'a> {
    fn signed(&self) -> Request<'a> {
        Request {
            method: self.method,
            headers: self.headers,
            body: self.body,
            now: self.at,
        }
    }
}

impl Reply {
    fn refused(refusal: &Refusal) -> Self {
        Self {
            status: refusal.status,
            response: refusal.to_json(),
        }
    }

    /// 200 when all that it would have started has been started before, by the same id.
    fn started(invocation_id: &str, answers: &[Answer]) -> Self {
        let count = |status| {
            answers
                .iter()
                .filter(|answer| answer.status == status)
                .count()
        };
        let (started, duplicates) = (count(Status::Started), count(Status::Duplicate));
        let ignored: Vec<Value> = answers
            .iter()
            .filter(|answer| answer.status == Status::Ignored)
            .map(|answer| json!({"userId": answer.user_id, "reason": answer.reason}))
            .collect();
        let is_duplicate = started == 0 && duplicates > 0;
        let mut data = json!({
            "flowInvocationId": invocation_id, "started": started, "duplicates": duplicates, "ignored": ignored
        });
        if is_duplicate {
            data["duplicate"] = json!(true);
        }
        Self {
            status: if is_duplicate { 200 } else { 202 },
            response: json!({"data": data}),
        }
    }
}

impl From<Greeting> for Reply {
    fn from(greeting: Greeting) -> Self {
        Self {
            status: 200,
            response: match greeting {
                Greeting::Text(text) => Value::String(text),
                Greeting::Json(json) => json,
                Greeting::Empty => Value::Null,
            },
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
