//! The worker's side of the ring. Nothing here reads or names an object of the database, so that the functions need neither the
//! rights of the extension's owner nor a search path, which every call would pay for.

use std::cell::{Cell, LazyCell};
use std::time::{Duration, Instant};

use actionflow_core::enrich::reply::{Failure, FailureKind, Reply};
use actionflow_core::rendezvous::{Full, Listener, Taken, Ticket};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::call::unpack;
use super::check_ring;
use crate::error::Error;
use crate::pg::clock;
use crate::pg::ring::{self, locked};

thread_local! {
    static LISTENER: Cell<Option<Listener>> = const { Cell::new(None) };
}

type Request = (i64, i32, String, String);

/// Takes requests of Enrich out of shared memory, and waits up to `wait_ms` for the first of them.
///
/// From its first call until the session ends the connection counts as a worker that is there. Volatile: what it returns
/// nobody else gets.
///
/// # Errors
/// 55000 the library is not preloaded; 53300 too many connections take requests already.
#[pg_extern(volatile, parallel_unsafe)]
pub(crate) fn take_enrichments(
    max_requests: i32,
    wait_ms: i32,
) -> Result<
    TableIterator<
        'static,
        (
            name!(ticket, i64),
            name!(remaining_ms, i32),
            name!(head, String),
            name!(body, String),
        ),
    >,
    ErrorReport,
> {
    check_ring()?;
    let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or_default());
    let max = usize::try_from(max_requests).unwrap_or_default();
    Ok(TableIterator::new(take(max, wait)?))
}

fn take(max: usize, wait: Duration) -> Result<Vec<Request>, Error> {
    let listener = listen()?;
    if max == 0 {
        return Ok(Vec::new());
    }
    let until = Instant::now() + wait;
    // However this ends, the next request must not be announced to somebody who no longer waits for it.
    let _waiting = Waiting(listener);
    loop {
        let (taken, next) = locked(|ring, _| {
            let taken = ring.take(listener, max);
            let next = (!taken.is_empty()).then(|| ring.hand_over(ring::database()));
            (taken, next.flatten())
        });
        if let Some(receiver) = next {
            ring::wake(receiver);
        }
        if !taken.is_empty() {
            return Ok(copy_out(&taken));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Vec::new());
        }
        ring::sleep_while_connected(left);
    }
}

struct Waiting(Listener);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(receiver) = locked(|ring, _| ring.stop_waiting(self.0)) {
            ring::wake(receiver);
        }
    }
}

fn listen() -> Result<Listener, Error> {
    if let Some(listener) = LISTENER.get() {
        return Ok(listener);
    }
    let listener = locked(|ring, _| ring.listen(ring::database(), ring::my_latch()))
        .ok_or(Error::TooManyReceivers)?;
    LISTENER.set(Some(listener));
    ring::at_session_end(session_ends);
    Ok(listener)
}

/// Says that this connection takes no more requests, and is there only until what it has taken is answered: whoever asks from
/// now on is not made to wait for it. Another take takes that back.
///
/// # Errors
/// 55000 the library is not preloaded.
#[pg_extern(volatile, parallel_unsafe)]
pub(crate) fn leave_enrichments() -> Result<(), ErrorReport> {
    check_ring()?;
    if let Some(listener) = LISTENER.get() {
        wake_all(locked(|ring, _| ring.retire(listener)));
    }
    Ok(())
}

/// Those who wait for room wait for nothing now, too.
fn wake_all(latches: Vec<u64>) {
    for latch in latches {
        ring::wake(latch);
    }
    ring::announce_room();
}

fn session_ends() {
    if let Some(listener) = LISTENER.take() {
        wake_all(locked(|ring, _| ring.unlisten(listener)));
    }
}

fn copy_out(taken: &[Taken]) -> Vec<Request> {
    let messages: Vec<Vec<u8>> = taken
        .iter()
        .map(|item| ring::read(&item.blocks, item.length))
        .collect();
    let has_freed = locked(|ring, _| {
        let freed = taken.iter().filter(|item| ring.copied(item.ticket));
        freed.count() > 0
    });
    if has_freed {
        ring::announce_room();
    }
    let now = pg_sys::TimestampTz::from(clock::wall_clock());
    let requests = taken.iter().zip(messages).filter_map(|(item, message)| {
        let (head, body) = unpack(&message)?;
        let remaining = item.deadline.saturating_sub(now).max(0) / 1_000;
        Some((
            item.ticket.to_number(),
            i32::try_from(remaining).unwrap_or(i32::MAX),
            head.to_owned(),
            body.to_owned(),
        ))
    });
    requests.collect()
}

/// Hands replies to the callers who wait for them; returns the tickets of those who still did.
///
/// # Errors
/// 55000 the library is not preloaded.
#[pg_extern(volatile, strict, parallel_unsafe)]
pub(crate) fn answer_enrichments(
    tickets: Vec<Option<i64>>,
    replies: Vec<Option<String>>,
) -> Result<Vec<i64>, ErrorReport> {
    check_ring()?;
    Ok(answer(&tickets, &replies))
}

/// How long answers wait for memory that others hold. Whoever has an answer takes it out in no time.
const ROOM_WAIT: Duration = Duration::from_secs(1);

fn answer(tickets: &[Option<i64>], replies: &[Option<String>]) -> Vec<i64> {
    let given = tickets.iter().zip(replies).filter_map(|(number, reply)| {
        let ticket = number.map(Ticket::from_number)?;
        Some((ticket, reply.as_deref().unwrap_or_default()))
    });
    let (mut reached, without_room) = hand_over(given.collect());
    let until = Instant::now() + ROOM_WAIT;
    for (ticket, reply) in without_room {
        let left = || until.saturating_duration_since(Instant::now());
        let attempt = || {
            let (reached, without_room) = hand_over(vec![(ticket, reply)]);
            without_room.is_empty().then_some(reached)
        };
        let handed = ring::when_there_is_room(left, attempt).unwrap_or_else(|| {
            let busy = failure(
                FailureKind::Busy,
                "there was no room for the answer in time",
            );
            hand_over(vec![(ticket, busy.as_str())]).0
        });
        reached.extend(handed);
    }
    reached
}

/// As a reply: no longer than any request, so there is room for it.
fn failure(kind: FailureKind, message: &str) -> String {
    let message = message.to_owned();
    Reply::Failure(Failure { kind, message })
        .to_json()
        .to_string()
}

type Given<'a> = (Ticket, &'a str);

/// Hands over what there is room for; returns the tickets whose callers still waited, and what there is no room for.
fn hand_over(given: Vec<Given<'_>>) -> (Vec<i64>, Vec<Given<'_>>) {
    let database = ring::database();
    let too_large = LazyCell::new(|| {
        failure(
            FailureKind::TooLarge,
            "the answer is larger than the shared memory of Enrich",
        )
    });
    let mut written: Vec<(Ticket, Vec<u32>, &str)> = Vec::with_capacity(given.len());
    let mut without_room = Vec::new();
    locked(|ring, _| {
        for (ticket, reply) in given {
            match ring.begin_answer(ticket, database, reply.len()) {
                Ok(Some(blocks)) => written.push((ticket, blocks, reply)),
                Ok(None) => {}
                Err(Full::ForNow) => without_room.push((ticket, reply)),
                Err(Full::ForEver) => {
                    if let Ok(Some(blocks)) = ring.begin_answer(ticket, database, too_large.len()) {
                        written.push((ticket, blocks, &too_large));
                    }
                }
            }
        }
    });
    for (_, blocks, reply) in &written {
        ring::write(blocks, reply.as_bytes());
    }
    let callers: Vec<Option<u64>> = locked(|ring, _| {
        let answered = written.iter().map(|(ticket, ..)| ring.answered(*ticket));
        answered.collect()
    });
    for caller in callers.iter().flatten() {
        ring::wake(*caller);
    }
    if callers.contains(&None) {
        ring::announce_room();
    }
    let reached = written.iter().zip(&callers);
    let reached = reached
        .filter(|(_, caller)| caller.is_some())
        .map(|((ticket, ..), _)| ticket.to_number());
    (reached.collect(), without_room)
}
