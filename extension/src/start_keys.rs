//! Start keys: a flow starts once for a caller's invocation id and a customer.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use actionflow_core::payload::TriggerPayload;
use pgrx::datum::DatumWithOid;
use pgrx::spi::{OwnedPreparedStatement, Spi, SpiClient, SpiTupleTable};

use crate::catalog::Flow;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::Mode;
use crate::flows::Start;
use crate::pg::settings::by_index;
use crate::prepared::prepare;

/// A caller's invocation id and a customer: together they start a flow once.
pub(crate) type Key = (String, String);

/// The run that a key stands for.
pub(crate) struct Claim {
    pub(crate) run_id: i64,
    /// Whether this start has taken the key.
    pub(crate) is_new: bool,
}

/// A key that was there may expire before it is looked at; then it can be taken.
const MAX_TRIES: usize = 2;

const INSERT_ONE: &str = "insert into actionflow._start_key (flow_id, mode, flow_invocation_id, user_id, run_id, started_at)
     values ($1, $2, $3, $4, $5, $6)
     on conflict do nothing
     returning run_id";
pub(crate) const FIND_ONE: &str = "select k.run_id from actionflow._start_key as k
     where k.flow_id = $1 and k.mode = $2 and k.flow_invocation_id = $3 and k.user_id = $4";
const INSERT_MANY: &str = "insert into actionflow._start_key (flow_id, mode, flow_invocation_id, user_id, run_id, started_at)
     select $1, $2, k.flow_invocation_id, k.user_id, k.run_id, $6
     from unnest($3::text[], $4::text[], $5::bigint[]) with ordinality as k (flow_invocation_id, user_id, run_id, position)
     order by k.position
     on conflict do nothing";
/// Each key is looked up by all of the index, which `offset 0` makes sure of. As a join, a plan made while the table has no
/// statistics compares every key of the flow with every key that is asked for.
pub(crate) const FIND_MANY: &str = "select k.flow_invocation_id, k.user_id, k.run_id
     from unnest($3::text[], $4::text[]) as g (flow_invocation_id, user_id)
     cross join lateral (
         select k.flow_invocation_id, k.user_id, k.run_id
         from actionflow._start_key as k
         where k.flow_id = $1 and k.mode = $2
             and k.flow_invocation_id = g.flow_invocation_id and k.user_id = g.user_id
         offset 0
     ) as k";

/// Takes the keys of all starts that have one. A key that another session is taking is waited for: when that commits,
/// it is a duplicate, when it rolls back, it is ours.
pub(crate) fn claim(
    engine: &Engine,
    start: &Start<'_>,
    payloads: &[TriggerPayload],
    test_users: &HashSet<String>,
) -> Result<HashMap<Key, Claim>, Error> {
    let &Start { flow, mode, .. } = start;
    let mut keys: Vec<Key> = payloads
        .iter()
        .filter_map(|payload| start.key_of(payload).map(|key| (key, payload)))
        .flat_map(|(key, payload)| {
            payload
                .target_user_ids
                .iter()
                .map(|user| (key.to_owned(), user.clone()))
        })
        .filter(|(_, user)| mode == Mode::Live || test_users.contains(user))
        .collect();
    // In one order, so that two sessions with the same keys wait for each other one way only.
    keys.sort_unstable();
    keys.dedup();
    let mut claims = HashMap::with_capacity(keys.len());
    for _ in 0..MAX_TRIES {
        match keys.as_slice() {
            [] => break,
            [key] => claims.extend(claim_one(engine, flow, mode, key)?),
            _ => claims.extend(claim_many(engine, flow, mode, &keys)?),
        }
        keys.retain(|key| !claims.contains_key(key));
    }
    Ok(claims)
}

fn claim_one(
    engine: &Engine,
    flow: &Flow,
    mode: Mode,
    key: &Key,
) -> Result<Option<(Key, Claim)>, Error> {
    let run_id = engine.next_run_id();
    let (flow_id, mode) = (flow.id, mode.as_str());
    let claim = Spi::connect_mut(|client| {
        let (invocation, user) = (key.0.as_str(), key.1.as_str());
        let arguments = [
            flow_id.into(),
            mode.into(),
            invocation.into(),
            user.into(),
            run_id.into(),
            engine.stamp.now.into(),
        ];
        if !kept(client, INSERT_ONE, &arguments)?.is_empty() {
            return Ok(Some(Claim {
                run_id,
                is_new: true,
            }));
        }
        let found = by_index(|| kept(client, FIND_ONE, &arguments[..4]))?;
        let run_id = match found.into_iter().next() {
            Some(row) => row.get(1)?,
            None => None,
        };
        Ok::<_, Error>(run_id.map(|run_id| Claim {
            run_id,
            is_new: false,
        }))
    })?;
    Ok(claim.map(|claim| (key.clone(), claim)))
}

fn claim_many(
    engine: &Engine,
    flow: &Flow,
    mode: Mode,
    keys: &[Key],
) -> Result<HashMap<Key, Claim>, Error> {
    let run_ids: Vec<i64> = keys.iter().map(|_| engine.next_run_id()).collect();
    let invocations: Vec<&str> = keys.iter().map(|(id, _)| id.as_str()).collect();
    let users: Vec<&str> = keys.iter().map(|(_, user)| user.as_str()).collect();
    let (flow_id, mode) = (flow.id, mode.as_str());
    Spi::connect_mut(|client| {
        let arguments = [
            flow_id.into(),
            mode.into(),
            invocations.into(),
            users.into(),
            run_ids.clone().into(),
            engine.stamp.now.into(),
        ];
        kept(client, INSERT_MANY, &arguments)?;
        let found = by_index(|| kept(client, FIND_MANY, &arguments[..4]))?;
        let ours: HashSet<i64> = run_ids.into_iter().collect();
        let mut claims = HashMap::new();
        for row in found {
            if let (Some(id), Some(user), Some(run_id)) = (row.get(1)?, row.get(2)?, row.get(3)?) {
                let is_new = ours.contains(&run_id);
                claims.insert((id, user), Claim { run_id, is_new });
            }
        }
        Ok(claims)
    })
}

thread_local! {
    static KEPT: RefCell<HashMap<&'static str, OwnedPreparedStatement>> = RefCell::new(HashMap::new());
}

fn kept<'client>(
    client: &mut SpiClient<'client>,
    sql: &'static str,
    arguments: &[DatumWithOid<'_>],
) -> Result<SpiTupleTable<'client>, Error> {
    KEPT.with_borrow_mut(|kept| {
        let statement = match kept.entry(sql) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(prepare(client, sql, arguments)?),
        };
        Ok(client.update(&*statement, None, arguments)?)
    })
}
