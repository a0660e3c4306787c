//! Locks that Postgres has no SQL for.

use pgrx::pg_sys;

use super::types::hash_bytes;

/// Apart from the advisory locks that SQL can take, which have 1 and 2 in this place.
const BUILD: u16 = 0x4146;
const CUSTOMER: u16 = 0x4147;

/// The key that stands for all customers; no customer has it.
const EVERYBODY: u64 = 0;

/// So many customers are announced with a lock each.
const ANNOUNCED_ONE_BY_ONE: usize = 100;

fn tag(kind: u16, key: u64) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: set before any user code runs in a backend.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: (key >> 32) as u32,
        locktag_field3: key as u32,
        locktag_field4: kind,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

fn acquire(tag: &pg_sys::LOCKTAG, mode: u32, is_waiting: bool) -> bool {
    // SAFETY: an ordinary call inside a transaction, at whose end the lock goes.
    let result = unsafe { pg_sys::LockAcquire(tag, mode as i32, false, !is_waiting) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Says to every session of the database, until the end of this transaction, that a segment is being built; waits for the
/// end of another one's building.
pub(crate) fn announce_build() {
    acquire(&tag(BUILD, 0), pg_sys::ExclusiveLock, true);
}

/// Whether another session is building a segment.
pub(crate) fn is_build_announced() -> bool {
    let tag = tag(BUILD, 0);
    if !acquire(&tag, pg_sys::RowShareLock, false) {
        return true;
    }
    // SAFETY: releases what has just been taken.
    unsafe { pg_sys::LockRelease(&tag, pg_sys::RowShareLock as i32, false) };
    false
}

/// Waits for all transactions that have written to a table so far.
pub(crate) fn wait_for_writers(relation: pg_sys::Oid) {
    let tag = pg_sys::LOCKTAG {
        // SAFETY: as in `tag`.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: relation.to_u32(),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: an ordinary call inside a transaction; it can be cancelled.
    unsafe { pg_sys::WaitForLockers(tag, pg_sys::ShareLock as i32, false) };
}

/// Takes the lock of those who write a table's rows, which a statement takes anyway, before its time.
pub(crate) fn announce_writing(relation: pg_sys::Oid) {
    // SAFETY: an ordinary call inside a transaction.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::RowExclusiveLock as i32) };
}

/// Keeps the row of a customer who has none from appearing in anybody else's transaction until the end of this one. It
/// conflicts with itself, as the lock of a row would.
pub(crate) fn expect_no_row(user_id: &str) {
    acquire(&tag(CUSTOMER, key_of(user_id)), pg_sys::ExclusiveLock, true);
    acquire(&tag(CUSTOMER, EVERYBODY), pg_sys::ShareLock, true);
}

/// Waits for whoever has looked at these customers' events while there was no row.
pub(crate) fn announce_rows<'a>(user_ids: impl ExactSizeIterator<Item = &'a str>) {
    // For many, one lock stands for all, unless somebody expects some row or other not to come: waiting for that one could
    // go in a circle, though they may have nothing to do with each other.
    let everybody = tag(CUSTOMER, EVERYBODY);
    if user_ids.len() > ANNOUNCED_ONE_BY_ONE && acquire(&everybody, pg_sys::RowExclusiveLock, false)
    {
        return;
    }
    for user_id in user_ids {
        acquire(
            &tag(CUSTOMER, key_of(user_id)),
            pg_sys::RowExclusiveLock,
            true,
        );
    }
}

/// Never [`EVERYBODY`].
fn key_of(user_id: &str) -> u64 {
    hash_bytes(user_id.as_bytes()) | 1
}
