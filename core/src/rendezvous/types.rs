//! What lies in the shared memory, and what the steps of the ring take and give.

/// No slot, no block.
pub(super) const NONE: u32 = u32::MAX;

/// Where a request stands; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum State {
    /// Nobody's.
    Free,
    /// The caller writes its request.
    Filling,
    /// In the queue.
    Posted,
    /// A receiver copies the request out.
    Reading,
    /// The call is being made.
    Taken,
    /// Somebody writes the answer.
    Answering,
    /// The caller may read the answer.
    Answered,
    /// Whoever took it has gone, or nobody is left to take it.
    Lost,
}

/// A place for one request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Slot {
    pub(super) state: State,
    pub(super) is_abandoned: bool,
    pub(super) generation: u32,
    pub(super) database: u32,
    pub(super) receiver: u32,
    pub(super) first_block: u32,
    pub(super) length: u32,
    /// The next slot that is free, or that is posted.
    pub(super) next: u32,
    pub(super) deadline: i64,
    pub(super) caller: u64,
}

/// A connection that takes requests of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Receiver {
    /// 0: nobody's.
    pub(super) database: u32,
    /// Whether it sleeps until a request is posted.
    pub(super) is_waiting: bool,
    /// Whether it takes no more, and is there only for what it has taken.
    pub(super) is_retired: bool,
    pub(super) latch: u64,
}

/// Heads of the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Header {
    pub(super) free_slot: u32,
    pub(super) first_posted: u32,
    pub(super) last_posted: u32,
    pub(super) free_block: u32,
    pub(super) free_blocks: u32,
}

/// Names a request for as long as it has its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// A place among the receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listener(pub(super) u32);

/// What a caller asks for.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The caller's database, not 0.
    pub database: u32,
    /// What wakes the caller; opaque.
    pub caller: u64,
    /// Opaque; given to the receiver.
    pub deadline: i64,
    /// Bytes of the request.
    pub length: usize,
}

/// There is no room at the moment, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Until another request has ended.
    ForNow,
    /// It is larger than all blocks together.
    ForEver,
}

/// A request that a receiver has to copy out, and then to call [`super::Ring::copied`] for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// For the answer.
    pub ticket: Ticket,
    /// As posted.
    pub deadline: i64,
    /// Bytes of the request.
    pub length: usize,
    /// Where they are, in order.
    pub blocks: Vec<u32>,
}

/// What a caller finds in its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing yet; whether a receiver has taken it.
    Waiting {
        /// Whether the call is being made.
        is_taken: bool,
    },
    /// The answer, to be copied out before it is released.
    Answered {
        /// Bytes of the answer.
        length: usize,
        /// Where they are, in order.
        blocks: Vec<u32>,
    },
    /// There will be none.
    Lost,
}

impl Ticket {
    /// As one number, which is never negative.
    #[must_use]
    pub fn to_number(self) -> i64 {
        (i64::from(self.generation & 0x7fff_ffff) << 32) | i64::from(self.slot)
    }

    /// The ticket of a number; any number makes one, and one that was never given out names nothing.
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        let half = |shift: u32| u32::try_from((number >> shift) & 0xffff_ffff).unwrap_or(NONE);
        Self {
            slot: half(0),
            generation: half(32),
        }
    }
}

impl Slot {
    pub(super) const FREE: Self = Self {
        state: State::Free,
        is_abandoned: false,
        generation: 0,
        database: 0,
        receiver: NONE,
        first_block: NONE,
        length: 0,
        next: NONE,
        deadline: 0,
        caller: 0,
    };
}

impl Default for Slot {
    fn default() -> Self {
        Self::FREE
    }
}

impl Default for Header {
    fn default() -> Self {
        Self {
            free_slot: NONE,
            first_posted: NONE,
            last_posted: NONE,
            free_block: NONE,
            free_blocks: 0,
        }
    }
}

pub(super) fn index(number: u32) -> usize {
    number as usize
}

pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}
