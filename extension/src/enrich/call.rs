//! One enrich action from the caller's side: into the ring, asleep, and out again.
//!
//! However it ends, by the answer, the deadline, an error, or the end of the session, the slot and the pass are given back:
//! by [`UnderWay`] when it is dropped, which an error does too, or by the callback at the session's end, when nothing is
//! dropped any more.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use actionflow_core::enrich::reply::{Failure, FailureKind, Reply};
use actionflow_core::rendezvous::{Full, Look, Outcome, Refusal, Request, Ticket};
use pgrx::pg_sys;
use serde_json::Value;

use super::MAX_MESSAGE_BYTES;
use super::gates::{self, Pass};
use crate::catalog::Endpoint;
use crate::pg::clock;
use crate::pg::ring::{self, locked};

/// What an endpoint is asked.
pub(super) struct Question<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// For the worker; see sql/enrichments.sql.
    pub(super) head: String,
    /// The JSON message.
    pub(super) body: String,
    /// How long the answer may take.
    pub(super) time: Duration,
    /// Whether that is less than the action should have: others have used it up, and a time-out is not this endpoint's fault.
    pub(super) is_cut_short: bool,
}

#[derive(Default)]
struct Held {
    ticket: Option<Ticket>,
    pass: Option<Pass>,
}

thread_local! {
    static HELD: RefCell<Held> = RefCell::new(Held::default());
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// What this backend holds while it asks.
struct UnderWay;

impl UnderWay {
    fn begin(pass: Pass) -> Self {
        if !IS_REGISTERED.replace(true) {
            ring::at_session_end(|| give_back(Outcome::Unknown));
        }
        HELD.set(Held {
            ticket: None,
            pass: Some(pass),
        });
        Self
    }

    fn has_slot(&self, ticket: Ticket) {
        HELD.with_borrow_mut(|held| held.ticket = Some(ticket));
    }

    fn end(self, outcome: Outcome) {
        give_back(outcome);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        give_back(Outcome::Unknown);
    }
}

/// Does nothing when there is nothing left to give back.
fn give_back(outcome: Outcome) {
    let Held { ticket, pass } = HELD.take();
    if ticket.is_none() && pass.is_none() {
        return;
    }
    let has_freed = locked(|ring, gates| {
        if let Some(pass) = pass {
            gates::leave(gates, pass, outcome);
        }
        ticket.is_some_and(|ticket| ring.release(ticket))
    });
    if has_freed {
        ring::announce_room();
    }
}

fn failed(kind: FailureKind, message: &str) -> Reply {
    Reply::Failure(Failure {
        kind,
        message: message.to_owned(),
    })
}

/// Asks, and waits for the reply. The time is the caller's to bound: it may be cancelled meanwhile.
pub(super) fn ask(question: &Question<'_>) -> Reply {
    let deadline = Instant::now() + question.time;
    let message = pack(&question.head, &question.body);
    if message.len() > MAX_MESSAGE_BYTES {
        return failed(FailureKind::TooLarge, "the request is larger than 4 MiB");
    }
    let pass = match enter(question.endpoint) {
        Ok(pass) => pass,
        Err(reply) => return reply,
    };
    let under_way = UnderWay::begin(pass);
    let reply = exchange(&under_way, &message, deadline);
    let outcome = match &reply {
        Reply::Answer(_) => Outcome::Answered,
        Reply::Failure(failure)
            if failure.kind == FailureKind::Timeout && question.is_cut_short =>
        {
            Outcome::Unknown
        }
        Reply::Failure(failure) if failure.kind.is_endpoints_fault() => Outcome::Failed,
        Reply::Failure(_) => Outcome::Unknown,
    };
    under_way.end(outcome);
    reply
}

/// The lengths apart, because both parts may hold any character.
fn pack(head: &str, body: &str) -> Vec<u8> {
    let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), head.as_bytes(), body.as_bytes()].concat()
}

/// The two parts of a message.
pub(super) fn unpack(message: &[u8]) -> Option<(&str, &str)> {
    let (length, rest) = message.split_first_chunk::<4>()?;
    let (head, body) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((str::from_utf8(head).ok()?, str::from_utf8(body).ok()?))
}

fn enter(endpoint: &Endpoint) -> Result<Pass, Reply> {
    if !endpoint.is_enabled {
        return Err(failed(FailureKind::Disabled, "the endpoint is disabled"));
    }
    locked(|ring, gates| {
        if !ring.is_anybody_listening(ring::database()) {
            gates::count_refused(gates, endpoint.id);
            return Err(failed(FailureKind::NoWorker, "no worker is connected"));
        }
        gates::admit(gates, endpoint.id, endpoint.limits).map_err(|refusal| match refusal {
            Refusal::BreakerOpen => failed(
                FailureKind::BreakerOpen,
                "the endpoint has failed too often and rests",
            ),
            Refusal::TooManyInFlight => failed(
                FailureKind::TooManyInFlight,
                "max_in_flight requests are under way",
            ),
        })
    })
}

fn exchange(under_way: &UnderWay, message: &[u8], deadline: Instant) -> Reply {
    let left = || deadline.saturating_duration_since(Instant::now());
    let (ticket, blocks) = match room_for(message, left) {
        Ok(room) => room,
        Err(reply) => return reply,
    };
    under_way.has_slot(ticket);
    ring::write(&blocks, message);
    if let Some(receiver) = locked(|ring, _| ring.post(ticket)) {
        ring::wake(receiver);
    }
    loop {
        let look = locked(|ring, _| ring.look(ticket));
        match look {
            Look::Answered { length, blocks } => return reply_of(&ring::read(&blocks, length)),
            Look::Lost => {
                return failed(
                    FailureKind::WorkerLost,
                    "the worker's connection ended before it answered",
                );
            }
            Look::Waiting { is_taken } => {
                let left = left();
                if left.is_zero() {
                    return out_of_time(is_taken);
                }
                ring::sleep(left);
            }
        }
    }
}

fn out_of_time(is_taken: bool) -> Reply {
    if is_taken {
        failed(FailureKind::Timeout, "the time for the action ran out")
    } else {
        failed(FailureKind::Busy, "no worker took the request in time")
    }
}

/// A slot, as soon as there is one.
fn room_for(message: &[u8], left: impl Fn() -> Duration) -> Result<(Ticket, Vec<u32>), Reply> {
    let budget = i64::try_from(left().as_micros()).unwrap_or(i64::MAX);
    let request = Request {
        database: ring::database(),
        caller: ring::my_latch(),
        deadline: pg_sys::TimestampTz::from(clock::wall_clock()).saturating_add(budget),
        length: message.len(),
    };
    let attempt = || {
        locked(|ring, _| {
            if !ring.is_anybody_listening(request.database) {
                return Some(Err(failed(FailureKind::NoWorker, "no worker is connected")));
            }
            match ring.begin(&request) {
                Ok(room) => Some(Ok(room)),
                Err(Full::ForNow) => None,
                Err(Full::ForEver) => Some(Err(failed(
                    FailureKind::TooLarge,
                    "the request is larger than the shared memory of Enrich",
                ))),
            }
        })
    };
    attempt()
        .or_else(|| ring::when_there_is_room(left, attempt))
        .unwrap_or_else(|| Err(failed(FailureKind::Busy, "there was no room in time")))
}

fn reply_of(bytes: &[u8]) -> Reply {
    serde_json::from_slice::<Value>(bytes)
        .ok()
        .and_then(|json| Reply::from_json(&json).ok())
        .unwrap_or_else(|| failed(FailureKind::Internal, "the worker's reply cannot be read"))
}
