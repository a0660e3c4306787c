//! What a world looks like at one moment.

use crate::rendezvous::types::{NONE, index};
use crate::rendezvous::{Header, Receiver, Ring, Slot, Ticket};

/// Bytes of a block: more than one, so that lengths and numbers of blocks differ.
pub(super) const BLOCK_SIZE: usize = 2;
const FIRST_RECEIVERS_LATCH: u64 = 1 << 32;

/// Who is there, and what they do.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) slots: usize,
    pub(super) blocks: usize,
    pub(super) callers: Vec<Plan>,
    /// The database of each.
    pub(super) receivers: Vec<u32>,
    /// How many requests a receiver takes at once.
    pub(super) max_taken: usize,
    /// Bytes of the answers that every request may get.
    pub(super) answers: Vec<usize>,
    /// Of all slots before the first request.
    pub(super) generation: u32,
}

/// What a caller is going to do.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) database: u32,
    /// Bytes of its requests, one after the other.
    pub(super) lengths: Vec<usize>,
}

/// One moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) memory: Memory,
    /// What lies in each block; `None`: something else.
    pub(super) contents: Vec<Option<Tag>>,
    pub(super) callers: Vec<Caller>,
    pub(super) takers: Vec<Taker>,
    /// The requests that should have a slot, ordered by it.
    pub(super) jobs: Vec<Job>,
    /// The slots that should be in the queue, in the order in which they were posted.
    pub(super) queue: Vec<u32>,
}

/// What the ring works on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Memory {
    pub(super) header: Header,
    pub(super) slots: Vec<Slot>,
    pub(super) links: Vec<u32>,
    pub(super) receivers: Vec<Receiver>,
}

/// The content of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tag {
    pub(super) caller: usize,
    pub(super) number: usize,
    pub(super) is_answer: bool,
    pub(super) position: usize,
}

/// A caller that does not wait for an answer, or does: then there is a job that is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    /// The number of its next request.
    pub(super) next: usize,
    pub(super) room: Room,
}

/// Whether a caller waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Room {
    NotNeeded,
    Asleep,
    Woken,
}

/// A connection that takes requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Taker {
    Gone,
    /// Between two calls.
    Idle,
    /// Takes no more, and is there for what it has taken.
    Retired,
    /// Found nothing, and waits.
    Asleep,
    /// Has been woken.
    Awake,
    /// Copies requests out of these slots, and has these yet to do.
    Reading(Vec<u32>),
}

/// A request, from `begin` until its slot should be free.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Job {
    pub(super) caller: usize,
    pub(super) number: usize,
    pub(super) ticket: Ticket,
    /// As the ring has given them to whoever wrote last.
    pub(super) blocks: Vec<u32>,
    /// Bytes of what lies there.
    pub(super) length: usize,
    pub(super) stage: Stage,
    /// Whether the caller has not given up.
    pub(super) is_here: bool,
    /// Whether the caller is awake, or its latch is set.
    pub(super) will_look: bool,
}

/// Where a request should stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Filling,
    Posted,
    Reading(usize),
    Taken(usize),
    Answering,
    Answered,
    Lost,
}

/// What breaks a rule.
pub(super) type Broken = String;

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use ensure;

impl World {
    pub(super) fn database_of(&self, job: &Job) -> u32 {
        self.callers[job.caller].database
    }
}

impl Memory {
    pub(super) fn ring(&mut self) -> Ring<'_> {
        Ring {
            header: &mut self.header,
            slots: &mut self.slots,
            links: &mut self.links,
            receivers: &mut self.receivers,
            block_size: BLOCK_SIZE,
        }
    }
}

impl Stage {
    /// Whether somebody else than the caller copies.
    pub(super) fn is_owned(self) -> bool {
        matches!(self, Self::Reading(_) | Self::Answering)
    }

    pub(super) fn holds_answer(self) -> bool {
        matches!(self, Self::Answering | Self::Answered)
    }
}

impl State {
    pub(super) fn first(world: &World) -> Self {
        let mut memory = Memory {
            header: Header::default(),
            slots: vec![Slot::default(); world.slots],
            links: vec![NONE; world.blocks],
            receivers: vec![Receiver::default(); world.receivers.len()],
        };
        memory.ring().clear();
        for slot in &mut memory.slots {
            slot.generation = world.generation;
        }
        let caller = Caller {
            next: 0,
            room: Room::NotNeeded,
        };
        Self {
            memory,
            contents: vec![None; world.blocks],
            callers: vec![caller; world.callers.len()],
            takers: vec![Taker::Gone; world.receivers.len()],
            jobs: Vec::new(),
            queue: Vec::new(),
        }
    }

    /// The request that a caller waits for.
    pub(super) fn job_of(&self, caller: usize) -> Option<usize> {
        self.jobs
            .iter()
            .position(|job| job.caller == caller && job.is_here)
    }

    pub(super) fn job_in(&self, slot: u32) -> Option<usize> {
        self.jobs.iter().position(|job| job.ticket.slot == slot)
    }

    pub(super) fn is_listening(&self, world: &World, database: u32) -> bool {
        let mut takers = self.takers.iter().zip(&world.receivers);
        takers
            .any(|(taker, own)| *own == database && !matches!(taker, Taker::Gone | Taker::Retired))
    }

    pub(super) fn free_blocks(&self) -> usize {
        let used: usize = self.jobs.iter().map(|job| job.blocks.len()).sum();
        self.contents.len() - used
    }

    pub(super) fn has_room(&self, length: usize) -> bool {
        self.jobs.len() < self.memory.slots.len() && blocks_for(length) <= self.free_blocks()
    }

    /// Somebody has been handed blocks, and fills them.
    pub(super) fn write(&mut self, job: usize) {
        for position in 0..self.jobs[job].blocks.len() {
            let block = index(self.jobs[job].blocks[position]);
            self.contents[block] = Some(self.jobs[job].tag(position));
        }
    }

    /// What lies in the blocks of a job is nobody's any more.
    pub(super) fn overwrite(&mut self, job: usize) {
        for block in &self.jobs[job].blocks {
            self.contents[index(*block)] = None;
        }
    }

    /// A job's slot is free now, and those who wait for room are told so.
    pub(super) fn end(&mut self, job: usize) {
        self.overwrite(job);
        let slot = self.jobs.remove(job).ticket.slot;
        self.queue.retain(|posted| *posted != slot);
        self.tell_of_room();
    }

    pub(super) fn tell_of_room(&mut self) {
        for caller in &mut self.callers {
            if caller.room == Room::Asleep {
                caller.room = Room::Woken;
            }
        }
    }

    pub(super) fn wake_caller(&mut self, latch: u64) {
        let caller = usize::try_from(latch).ok();
        if let Some(job) = caller.and_then(|caller| self.job_of(caller)) {
            self.jobs[job].will_look = true;
        }
    }
}

impl Job {
    pub(super) fn tag(&self, position: usize) -> Tag {
        Tag {
            caller: self.caller,
            number: self.number,
            is_answer: self.stage.holds_answer(),
            position,
        }
    }

    pub(super) fn deadline(&self) -> i64 {
        deadline(self.caller, self.number)
    }
}

pub(super) fn deadline(caller: usize, number: usize) -> i64 {
    i64::try_from(caller * 1000 + number).expect("small")
}

pub(super) fn blocks_for(length: usize) -> usize {
    length.div_ceil(BLOCK_SIZE).max(1)
}

pub(super) fn callers_latch(caller: usize) -> u64 {
    u64::try_from(caller).expect("small")
}

pub(super) fn receivers_latch(receiver: usize) -> u64 {
    FIRST_RECEIVERS_LATCH + u64::try_from(receiver).expect("small")
}

pub(super) fn receiver_of(latch: u64) -> Option<usize> {
    usize::try_from(latch.checked_sub(FIRST_RECEIVERS_LATCH)?).ok()
}
