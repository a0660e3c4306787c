//! What each step does, and what the ring has to say to it.

use super::state::{
    Broken, Job, Room, Stage, State, Taker, World, blocks_for, callers_latch, deadline, ensure,
    receiver_of, receivers_latch,
};
use crate::rendezvous::types::index;
use crate::rendezvous::{Full, Listener, Request};

impl State {
    pub(super) fn begin(&mut self, world: &World, caller: usize) -> Result<(), Broken> {
        let number = self.callers[caller].next;
        let length = world.callers[caller].lengths[number];
        let has_room = self.has_room(length);
        let before = self.memory.slots.clone();
        let begun = self.memory.ring().begin(&Request {
            database: world.callers[caller].database,
            caller: callers_latch(caller),
            deadline: deadline(caller, number),
            length,
        });
        let (ticket, blocks) = match begun {
            Ok(begun) => begun,
            Err(full) => {
                let is_too_large = blocks_for(length) > world.blocks;
                ensure!(!has_room, "no room is found where there is some");
                ensure!((full == Full::ForEver) == is_too_large, "wrong: {full:?}");
                self.callers[caller].room = Room::Asleep;
                if is_too_large {
                    self.leave(caller)?;
                }
                return Ok(());
            }
        };
        ensure!(has_room, "room is found where there is none");
        ensure!(
            blocks.len() == blocks_for(length),
            "wrong number of blocks: {blocks:?}"
        );
        ensure!(
            self.job_in(ticket.slot).is_none(),
            "a slot in use is given out"
        );
        ensure!(
            before[index(ticket.slot)].generation != ticket.generation,
            "a ticket is given out twice"
        );
        let place = self
            .jobs
            .partition_point(|job| job.ticket.slot < ticket.slot);
        let job = Job {
            caller,
            number,
            ticket,
            blocks,
            length,
            stage: Stage::Filling,
            is_here: true,
            will_look: false,
        };
        self.jobs.insert(place, job);
        self.write(place);
        self.callers[caller].next += 1;
        self.callers[caller].room = Room::NotNeeded;
        Ok(())
    }

    pub(super) fn post(&mut self, world: &World, caller: usize) -> Result<(), Broken> {
        let job = self.job_of(caller).ok_or("nothing to post")?;
        let ticket = self.jobs[job].ticket;
        let database = world.callers[caller].database;
        let woken = self.memory.ring().post(ticket);
        // The caller looks once more before it sleeps.
        self.jobs[job].will_look = true;
        if self.is_listening(world, database) {
            self.jobs[job].stage = Stage::Posted;
            self.queue.push(ticket.slot);
        } else {
            self.jobs[job].stage = Stage::Lost;
        }
        self.wake_receivers(world, woken, database)
    }

    pub(super) fn leave(&mut self, caller: usize) -> Result<(), Broken> {
        let Some(job) = self.job_of(caller) else {
            self.callers[caller].room = Room::NotNeeded;
            self.callers[caller].next += 1;
            return Ok(());
        };
        let is_free = !self.jobs[job].stage.is_owned();
        let said = self.memory.ring().release(self.jobs[job].ticket);
        ensure!(said == is_free, "release says {said}");
        if is_free {
            self.end(job);
        } else {
            self.jobs[job].is_here = false;
            self.jobs[job].will_look = false;
        }
        Ok(())
    }

    pub(super) fn listen(&mut self, world: &World, receiver: usize) -> Result<(), Broken> {
        let database = world.receivers[receiver];
        let listener = self
            .memory
            .ring()
            .listen(database, receivers_latch(receiver));
        ensure!(listener.is_some(), "no place for a receiver");
        self.takers[receiver] = Taker::Idle;
        ensure!(
            listener == self.listener(receiver).ok(),
            "the place of another receiver"
        );
        Ok(())
    }

    pub(super) fn take(&mut self, world: &World, receiver: usize) -> Result<(), Broken> {
        let listener = self.listener(receiver)?;
        let taken = self.memory.ring().take(listener, world.max_taken);
        let is_for_us = |slot: &u32| {
            self.job_in(*slot)
                .is_some_and(|job| world.database_of(&self.jobs[job]) == world.receivers[receiver])
        };
        let next: Vec<u32> = self
            .queue
            .iter()
            .copied()
            .filter(is_for_us)
            .take(world.max_taken)
            .collect();
        let slots: Vec<u32> = taken.iter().map(|one| one.ticket.slot).collect();
        ensure!(slots == next, "{slots:?} are taken, not {next:?}");
        for one in taken {
            let job = self.job_in(one.ticket.slot).ok_or("a free slot is taken")?;
            let job = &mut self.jobs[job];
            ensure!(
                (one.ticket, one.deadline, one.length, &one.blocks)
                    == (job.ticket, job.deadline(), job.length, &job.blocks),
                "{one:?} is taken for {job:?}"
            );
            job.stage = Stage::Reading(receiver);
        }
        self.queue.retain(|slot| !slots.contains(slot));
        self.takers[receiver] = match slots.as_slice() {
            [] => Taker::Asleep,
            _ => Taker::Reading(slots),
        };
        Ok(())
    }

    pub(super) fn copied(&mut self, receiver: usize) -> Result<(), Broken> {
        let Taker::Reading(slots) = &mut self.takers[receiver] else {
            return Err("nothing to copy".to_owned());
        };
        let slot = slots.remove(0);
        if slots.is_empty() {
            self.takers[receiver] = Taker::Idle;
        }
        let job = self.job_in(slot).ok_or("a free slot is copied")?;
        let is_free = !self.jobs[job].is_here;
        let said = self.memory.ring().copied(self.jobs[job].ticket);
        ensure!(said == is_free, "copied says {said}");
        if is_free {
            self.end(job);
        } else {
            self.jobs[job].stage = Stage::Taken(receiver);
        }
        Ok(())
    }

    pub(super) fn retire(&mut self, world: &World, receiver: usize) -> Result<(), Broken> {
        let listener = self.listener(receiver)?;
        let latches = self.memory.ring().retire(listener);
        self.takers[receiver] = Taker::Retired;
        self.lose(world, world.receivers[receiver], None, latches)
    }

    pub(super) fn unlisten(&mut self, world: &World, receiver: usize) -> Result<(), Broken> {
        let listener = self.listener(receiver)?;
        let latches = self.memory.ring().unlisten(listener);
        self.takers[receiver] = Taker::Gone;
        self.lose(world, world.receivers[receiver], Some(receiver), latches)
    }

    /// What nobody will answer any more, because a receiver has gone or nobody is left to take it.
    pub(super) fn lose(
        &mut self,
        world: &World,
        database: u32,
        gone: Option<usize>,
        latches: Vec<u64>,
    ) -> Result<(), Broken> {
        let is_anybody_left = self.is_listening(world, database);
        let mut callers = Vec::new();
        for place in (0..self.jobs.len()).rev() {
            let job = &mut self.jobs[place];
            let is_lost = match job.stage {
                Stage::Reading(by) | Stage::Taken(by) => Some(by) == gone,
                Stage::Posted => !is_anybody_left && world.database_of(job) == database,
                _ => false,
            };
            if is_lost && job.is_here {
                job.stage = Stage::Lost;
                callers.push(callers_latch(job.caller));
                let slot = job.ticket.slot;
                self.queue.retain(|posted| *posted != slot);
            } else if is_lost {
                // The ring does not say that there is more room: after unlisten everybody who waits for it is told.
                self.end(place);
            }
        }
        callers.reverse();
        let (receivers, woken): (Vec<u64>, Vec<u64>) = latches
            .into_iter()
            .partition(|latch| receiver_of(*latch).is_some());
        ensure!(woken == callers, "{woken:?} are woken, not {callers:?}");
        for latch in woken {
            self.wake_caller(latch);
        }
        self.wake_receivers(world, receivers, database)
    }

    pub(super) fn begin_answer(
        &mut self,
        world: &World,
        slot: u32,
        length: usize,
    ) -> Result<(), Broken> {
        let place = self.job_in(slot).ok_or("a free slot is answered")?;
        let job = &self.jobs[place];
        let has_room = blocks_for(length) <= job.blocks.len() + self.free_blocks();
        let database = world.database_of(job);
        let begun = self
            .memory
            .ring()
            .begin_answer(job.ticket, database, length);
        let Ok(begun) = begun else {
            ensure!(!has_room, "no room is found where there is some");
            return Ok(());
        };
        ensure!(has_room, "room is found where there is none");
        let blocks = begun.ok_or("an answer that is waited for is refused")?;
        ensure!(
            blocks.len() == blocks_for(length),
            "wrong number of blocks: {blocks:?}"
        );
        self.overwrite(place);
        let job = &mut self.jobs[place];
        job.blocks = blocks;
        job.length = length;
        job.stage = Stage::Answering;
        self.write(place);
        Ok(())
    }

    pub(super) fn answered(&mut self, slot: u32) -> Result<(), Broken> {
        let place = self.job_in(slot).ok_or("a free slot is answered")?;
        let job = &mut self.jobs[place];
        let expected = job.is_here.then(|| callers_latch(job.caller));
        let woken = self.memory.ring().answered(job.ticket);
        ensure!(woken == expected, "{woken:?} is woken by an answer");
        match woken {
            Some(latch) => {
                job.stage = Stage::Answered;
                self.wake_caller(latch);
            }
            None => self.end(place),
        }
        Ok(())
    }

    pub(super) fn listener(&self, receiver: usize) -> Result<Listener, Broken> {
        let latch = receivers_latch(receiver);
        let mut places = self.memory.receivers.iter().zip(0..);
        places
            .find(|(place, _)| place.database != 0 && place.latch == latch)
            .map(|(_, place)| Listener(place))
            .ok_or_else(|| "a receiver has lost its place".to_owned())
    }

    pub(super) fn wake_receivers(
        &mut self,
        world: &World,
        latches: impl IntoIterator<Item = u64>,
        database: u32,
    ) -> Result<(), Broken> {
        for latch in latches {
            let receiver = receiver_of(latch).ok_or("a caller is woken to take")?;
            let is_asleep = self.takers[receiver] == Taker::Asleep;
            ensure!(
                is_asleep && world.receivers[receiver] == database,
                "receiver {receiver} is woken in vain"
            );
            self.takers[receiver] = Taker::Awake;
        }
        Ok(())
    }
}
