//! The gates of endpoints, in shared memory.

use actionflow_core::rendezvous::{Admission, GateState, Limits, Outcome, Refusal};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::pg::clock;
use crate::pg::ring::{self, GateEntry, locked};

/// How far from its place an endpoint's gate may lie.
const REACH: usize = 16;

/// The right to ask an endpoint, to be given back.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    endpoint_id: i64,
    limits: Limits,
    /// `None`: there was no place for a gate.
    admission: Option<Admission>,
}

/// Asks for a pass, under the ring's lock.
pub(super) fn admit(
    gates: &mut [GateEntry],
    endpoint_id: i64,
    limits: Limits,
) -> Result<Pass, Refusal> {
    let admission = match find(gates, endpoint_id, true) {
        Some(entry) => Some(
            entry
                .gate
                .admit(limits, now())
                .inspect_err(|_| entry.refused += 1)?,
        ),
        None => None,
    };
    Ok(Pass {
        endpoint_id,
        limits,
        admission,
    })
}

/// Counts a request that no worker takes, under the ring's lock.
pub(super) fn count_refused(gates: &mut [GateEntry], endpoint_id: i64) {
    if let Some(entry) = find(gates, endpoint_id, true) {
        entry.refused += 1;
    }
}

/// Gives a pass back, under the ring's lock.
pub(super) fn leave(gates: &mut [GateEntry], pass: Pass, outcome: Outcome) {
    if let (Some(admission), Some(entry)) = (pass.admission, find(gates, pass.endpoint_id, false)) {
        entry.gate.leave(admission, outcome, pass.limits, now());
    }
}

fn now() -> i64 {
    pg_sys::TimestampTz::from(clock::wall_clock())
}

/// An endpoint's gate, a new one if wanted, at the cost of one that nobody uses and that knows nothing.
fn find(gates: &mut [GateEntry], endpoint_id: i64, may_be_new: bool) -> Option<&mut GateEntry> {
    let database = ring::database();
    let start = (endpoint_id.unsigned_abs() as usize
        ^ (database as usize).wrapping_mul(0x9e37_79b1))
        % gates.len();
    let places = || (0..REACH).map(move |step| start + step);
    let count = gates.len();
    let known = places().map(|place| place % count).find(|place| {
        let entry = &gates[*place];
        (entry.database, entry.endpoint_id) == (database, endpoint_id)
    });
    let free = || {
        places().map(|place| place % count).find(|place| {
            let gate = &gates[*place].gate;
            gate.in_flight == 0 && gate.state == GateState::Closed && gate.failures == 0
        })
    };
    let place = match known {
        Some(place) => place,
        None if may_be_new => {
            let place = free()?;
            gates[place] = GateEntry {
                database,
                endpoint_id,
                ..GateEntry::default()
            };
            place
        }
        None => return None,
    };
    gates.get_mut(place)
}

/// The gates of this database: what enrich requests meet at each endpoint. Empty where the library is not preloaded.
#[pg_extern(volatile, parallel_unsafe)]
pub(crate) fn _gates() -> TableIterator<
    'static,
    (
        name!(endpoint_id, i64),
        name!(breaker, String),
        name!(failures, i64),
        name!(in_flight, i64),
        name!(refused, i64),
        name!(open_until, Option<TimestampWithTimeZone>),
    ),
> {
    let entries: Vec<GateEntry> = if ring::is_there() {
        locked(|_, gates| gates.to_vec())
    } else {
        Vec::new()
    };
    let database = ring::database();
    let mine = entries
        .into_iter()
        .filter(move |entry| entry.database == database);
    TableIterator::new(mine.map(|entry| {
        let gate = entry.gate;
        let (breaker, open_until) = match gate.state {
            GateState::Closed => ("closed", None),
            GateState::HalfOpen => ("half_open", None),
            GateState::Open => (
                "open",
                TimestampWithTimeZone::try_from(gate.open_until).ok(),
            ),
        };
        (
            entry.endpoint_id,
            breaker.to_owned(),
            i64::from(gate.failures),
            i64::from(gate.in_flight),
            i64::try_from(entry.refused).unwrap_or(i64::MAX),
            open_until,
        )
    }))
}
