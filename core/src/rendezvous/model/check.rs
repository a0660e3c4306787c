//! What is true at every moment.

use super::state::{
    Broken, Job, Room, Stage, State, Taker, World, callers_latch, ensure, receivers_latch,
};
use crate::rendezvous::State as Slots;
use crate::rendezvous::types::{NONE, index, number};
use crate::rendezvous::{Look, Ticket};

impl State {
    /// # Errors
    /// When something is not as it has to be.
    pub(super) fn check(&self, world: &World) -> Result<(), Broken> {
        self.check_slots(world)?;
        self.check_lists()?;
        self.check_contents()?;
        self.check_receivers(world)?;
        self.check_sleepers(world)?;
        self.check_what_is_said(world)
    }

    /// A slot is as its request has to be, and without one it is free.
    fn check_slots(&self, world: &World) -> Result<(), Broken> {
        for (place, slot) in self.memory.slots.iter().enumerate() {
            let Some(job) = self.job_in(number(place)) else {
                ensure!(
                    slot.state == Slots::Free && slot.first_block == NONE,
                    "slot {place} should be free and is {slot:?}"
                );
                continue;
            };
            let job = &self.jobs[job];
            let is_as_it_should_be = slot.state == state_of(job.stage)
                && slot.is_abandoned != job.is_here
                && slot.generation == job.ticket.generation
                && slot.database == world.database_of(job)
                && index(slot.length) == job.length
                && slot.caller == callers_latch(job.caller)
                && slot.deadline == job.deadline();
            ensure!(is_as_it_should_be, "slot {place} is {slot:?} for {job:?}");
        }
        Ok(())
    }

    /// Every slot and every block is in the one list in which it belongs.
    fn check_lists(&self) -> Result<(), Broken> {
        let memory = &self.memory;
        let slots = |first| walk(first, |slot| memory.slots.get(slot).map(|slot| slot.next));
        let blocks = |first| walk(first, |block| memory.links.get(block).copied());
        let queue = slots(memory.header.first_posted)?;
        ensure!(queue == self.queue, "the queue is {queue:?}");
        let last = queue.last().copied().unwrap_or(NONE);
        ensure!(
            memory.header.last_posted == last,
            "the end of the queue is not its last slot"
        );
        let mut free = slots(memory.header.free_slot)?;
        free.sort_unstable();
        let unused = (0..number(memory.slots.len())).filter(|slot| self.job_in(*slot).is_none());
        ensure!(
            free.iter().copied().eq(unused),
            "the free slots are {free:?}"
        );
        let mut all = blocks(memory.header.free_block)?;
        ensure!(
            index(memory.header.free_blocks) == all.len(),
            "the free blocks are counted wrong"
        );
        for job in &self.jobs {
            let chain = blocks(memory.slots[index(job.ticket.slot)].first_block)?;
            ensure!(chain == job.blocks, "{chain:?} are the blocks of {job:?}");
            all.extend(chain);
        }
        all.sort_unstable();
        ensure!(
            all.iter().copied().eq(0..number(memory.links.len())),
            "the blocks are {all:?}"
        );
        Ok(())
    }

    /// Whoever may read a block finds what was written for it.
    fn check_contents(&self) -> Result<(), Broken> {
        for job in self.jobs.iter().filter(|job| job.stage != Stage::Lost) {
            for (position, block) in job.blocks.iter().enumerate() {
                let found = self.contents[index(*block)];
                ensure!(
                    found == Some(job.tag(position)),
                    "{found:?} is read in {block} for {job:?}"
                );
            }
        }
        Ok(())
    }

    fn check_receivers(&self, world: &World) -> Result<(), Broken> {
        let places = || self.memory.receivers.iter();
        for (receiver, taker) in self.takers.iter().enumerate() {
            let latch = receivers_latch(receiver);
            let mut own = places().filter(|place| place.database != 0 && place.latch == latch);
            let place = own.next().map(|place| (place.database, place.is_waiting));
            let is_asleep = *taker == Taker::Asleep;
            let expected = (*taker != Taker::Gone).then(|| (world.receivers[receiver], is_asleep));
            ensure!(place == expected, "receiver {receiver} is {place:?}");
            ensure!(
                own.next().is_none(),
                "receiver {receiver} has several places"
            );
        }
        let used = places().filter(|place| place.database != 0).count();
        let present = self.takers.iter().filter(|taker| **taker != Taker::Gone);
        ensure!(used == present.count(), "the place of nobody is in use");
        Ok(())
    }

    /// Nobody sleeps who has something to do.
    fn check_sleepers(&self, world: &World) -> Result<(), Broken> {
        for job in &self.jobs {
            let is_over = matches!(job.stage, Stage::Answered | Stage::Lost);
            ensure!(
                !(is_over && job.is_here) || job.will_look,
                "the caller of {job:?} is not woken"
            );
            let own = || {
                let takers = self.takers.iter().zip(&world.receivers);
                takers.filter(|(_, database)| **database == world.database_of(job))
            };
            let is_unseen = own().any(|(taker, _)| *taker == Taker::Asleep)
                && own().all(|(taker, _)| *taker != Taker::Awake);
            ensure!(
                job.stage != Stage::Posted || !is_unseen,
                "nobody wakes to take {job:?}"
            );
        }
        for (place, caller) in self.callers.iter().enumerate() {
            if caller.room == Room::Asleep {
                // An answer that is shorter than its request makes room without saying so; its end will.
                let length = world.callers[place].lengths[caller.next];
                ensure!(
                    !self.has_room(length) || !self.jobs.is_empty(),
                    "caller {place} sleeps although there is room"
                );
            }
        }
        Ok(())
    }

    /// What only asks is answered right, and who has no right to anything changes nothing.
    fn check_what_is_said(&self, world: &World) -> Result<(), Broken> {
        let mut memory = self.memory.clone();
        let mut ring = memory.ring();
        ensure!(
            ring.used_slots() == self.jobs.len(),
            "slots are counted wrong"
        );
        for caller in &world.callers {
            ensure!(
                ring.is_anybody_listening(caller.database)
                    == self.is_listening(world, caller.database),
                "who listens is not known"
            );
        }
        for (place, slot) in self.memory.slots.iter().enumerate() {
            let ticket = Ticket {
                slot: number(place),
                generation: slot.generation,
            };
            let earlier = Ticket {
                generation: slot.generation.wrapping_sub(1) & 0x7fff_ffff,
                ..ticket
            };
            let job = self.job_in(ticket.slot).map(|job| &self.jobs[job]);
            if let Some(job) = job.filter(|job| job.is_here) {
                let look = ring.look(ticket);
                ensure!(look == look_at(job), "{job:?} looks like {look:?}");
            }
            let is_taken = job.is_some_and(|job| matches!(job.stage, Stage::Taken(_)));
            let owner = if is_taken { slot.database } else { 0 };
            let strangers = world.callers.iter().map(|caller| caller.database);
            let mut refused = vec![(earlier, slot.database), (ticket, slot.database + 1)];
            refused.extend(strangers.map(|database| (ticket, database)));
            for (ticket, database) in refused {
                if (ticket, database) != (ticket, owner) || ticket == earlier {
                    let begun = ring.begin_answer(ticket, database, 0);
                    ensure!(begun == Ok(None), "{ticket:?} may be answered");
                }
            }
            if !job.is_some_and(|job| job.stage == Stage::Answering) {
                ensure!(ring.answered(ticket).is_none(), "{ticket:?} is answered");
            }
            ensure!(ring.answered(earlier).is_none(), "{earlier:?} is answered");
            ensure!(ring.post(earlier).is_none(), "{earlier:?} is posted");
            ensure!(!ring.release(earlier), "{earlier:?} is released");
            ensure!(ring.look(earlier) == Look::Lost, "{earlier:?} is there");
            ring.copied(earlier);
            if job.is_none() {
                ensure!(!ring.release(ticket), "{ticket:?} is released twice");
            }
        }
        ensure!(memory == self.memory, "a stranger has changed something");
        Ok(())
    }
}

fn state_of(stage: Stage) -> Slots {
    match stage {
        Stage::Filling => Slots::Filling,
        Stage::Posted => Slots::Posted,
        Stage::Reading(_) => Slots::Reading,
        Stage::Taken(_) => Slots::Taken,
        Stage::Answering => Slots::Answering,
        Stage::Answered => Slots::Answered,
        Stage::Lost => Slots::Lost,
    }
}

fn look_at(job: &Job) -> Look {
    match job.stage {
        Stage::Answered => Look::Answered {
            length: job.length,
            blocks: job.blocks.clone(),
        },
        Stage::Lost => Look::Lost,
        Stage::Filling | Stage::Posted => Look::Waiting { is_taken: false },
        _ => Look::Waiting { is_taken: true },
    }
}

/// A list from its first element; the ring's own walk would not end in a list that does not.
fn walk(first: u32, next: impl Fn(usize) -> Option<u32>) -> Result<Vec<u32>, Broken> {
    let mut list = Vec::new();
    let mut at = first;
    while at != NONE {
        ensure!(!list.contains(&at), "a list runs in circles: {list:?}");
        list.push(at);
        at = next(index(at)).ok_or("a list leaves the memory")?;
    }
    Ok(list)
}
