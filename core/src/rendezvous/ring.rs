//! The steps.

use super::types::{
    Full, Header, Listener, Look, NONE, Receiver, Request, Slot, State, Taken, Ticket, index,
    number,
};

/// The ring, while its lock is held.
pub struct Ring<'a> {
    /// Heads of the lists.
    pub header: &'a mut Header,
    /// The slots.
    pub slots: &'a mut [Slot],
    /// For each block the next one of its list.
    pub links: &'a mut [u32],
    /// Connections that take requests.
    pub receivers: &'a mut [Receiver],
    /// Bytes of a block.
    pub block_size: usize,
}

impl Ring<'_> {
    /// Makes everything free; for memory of any content.
    pub fn clear(&mut self) {
        *self.header = Header::default();
        self.receivers.fill(Receiver::default());
        self.slots.fill(Slot::FREE);
        for slot in (0..self.slots.len()).rev() {
            self.slots[slot].next = self.header.free_slot;
            self.header.free_slot = number(slot);
        }
        for block in (0..self.links.len()).rev() {
            self.links[block] = self.header.free_block;
            self.header.free_block = number(block);
        }
        self.header.free_blocks = number(self.links.len());
    }

    /// A slot with room for the request, which the caller has to fill before [`Ring::post`], and where its blocks are.
    ///
    /// # Errors
    /// When there is no room.
    pub fn begin(&mut self, request: &Request) -> Result<(Ticket, Vec<u32>), Full> {
        let wanted = self.blocks_for(request.length);
        if index(wanted) > self.links.len() {
            return Err(Full::ForEver);
        }
        let slot = self.header.free_slot;
        if slot == NONE || wanted > self.header.free_blocks {
            return Err(Full::ForNow);
        }
        let place = index(slot);
        self.header.free_slot = self.slots[place].next;
        // Half of the numbers, so that a ticket is never negative.
        let generation = self.slots[place].generation.wrapping_add(1) & 0x7fff_ffff;
        self.slots[place] = Slot {
            state: State::Filling,
            generation,
            database: request.database,
            deadline: request.deadline,
            caller: request.caller,
            length: u32::try_from(request.length).unwrap_or(u32::MAX),
            ..Slot::FREE
        };
        self.resize(place, wanted);
        let ticket = Ticket { slot, generation };
        Ok((ticket, self.chain(place)))
    }

    /// Puts a request that has been filled into the queue, or into [`State::Lost`] where nobody listens any more: the caller looks
    /// before it sleeps. Returns what wakes a receiver, if one sleeps.
    pub fn post(&mut self, ticket: Ticket) -> Option<u64> {
        let place = self.find(ticket)?;
        if !self.is_anybody_listening(self.slots[place].database) {
            self.slots[place].state = State::Lost;
            return None;
        }
        self.slots[place].state = State::Posted;
        self.slots[place].next = NONE;
        match self.header.last_posted {
            NONE => self.header.first_posted = ticket.slot,
            last => self.slots[index(last)].next = ticket.slot,
        }
        self.header.last_posted = ticket.slot;
        self.wake_receiver(self.slots[place].database)
    }

    /// Requests are left for others, or the receiver that has been woken for one goes without it: what wakes another one.
    pub fn hand_over(&mut self, database: u32) -> Option<u64> {
        let mut at = self.header.first_posted;
        while at != NONE {
            if self.slots[index(at)].database == database {
                return self.wake_receiver(database);
            }
            at = self.slots[index(at)].next;
        }
        None
    }

    fn wake_receiver(&mut self, database: u32) -> Option<u64> {
        let receiver = self
            .receivers
            .iter_mut()
            .find(|receiver| receiver.database == database && receiver.is_waiting)?;
        // Whoever is woken looks at the whole queue; the next request may wake another one.
        receiver.is_waiting = false;
        Some(receiver.latch)
    }

    /// What has become of a caller's request.
    #[must_use]
    pub fn look(&self, ticket: Ticket) -> Look {
        let Some(place) = self.find(ticket) else {
            return Look::Lost;
        };
        let slot = &self.slots[place];
        match slot.state {
            State::Answered => Look::Answered {
                length: index(slot.length),
                blocks: self.chain(place),
            },
            State::Lost | State::Free => Look::Lost,
            state => Look::Waiting {
                is_taken: !matches!(state, State::Filling | State::Posted),
            },
        }
    }

    /// The caller needs its slot no longer, whatever has become of it. True: there is more room now.
    pub fn release(&mut self, ticket: Ticket) -> bool {
        let Some(place) = self.find(ticket) else {
            return false;
        };
        match self.slots[place].state {
            State::Free => false,
            State::Reading | State::Answering => {
                self.slots[place].is_abandoned = true;
                false
            }
            state => {
                if state == State::Posted {
                    self.unqueue(ticket.slot);
                }
                self.free(place);
                true
            }
        }
    }

    /// Whether anybody takes requests of this database.
    #[must_use]
    pub fn is_anybody_listening(&self, database: u32) -> bool {
        self.receivers
            .iter()
            .any(|receiver| receiver.database == database && !receiver.is_retired)
    }

    /// A place for a connection that takes requests; `None` when all are in use.
    pub fn listen(&mut self, database: u32, latch: u64) -> Option<Listener> {
        let place = self
            .receivers
            .iter()
            .position(|receiver| receiver.database == 0)?;
        self.receivers[place] = Receiver {
            database,
            latch,
            ..Receiver::default()
        };
        Some(Listener(number(place)))
    }

    /// The receiver takes no more, and may still answer what it has taken. What is in the queue is lost if nobody else is there.
    /// Returns what wakes the callers, and another receiver if it is needed.
    pub fn retire(&mut self, listener: Listener) -> Vec<u64> {
        let receiver = &mut self.receivers[index(listener.0)];
        let database = receiver.database;
        receiver.is_waiting = false;
        receiver.is_retired = true;
        self.lose(database, |_| false)
    }

    /// The connection has gone: what it has taken and is not answered is lost, and what is in the queue too if nobody is left.
    /// Returns what wakes the callers, and another receiver if it is needed.
    pub fn unlisten(&mut self, listener: Listener) -> Vec<u64> {
        let receiver = &mut self.receivers[index(listener.0)];
        let database = std::mem::take(receiver).database;
        self.lose(database, |slot| {
            matches!(slot.state, State::Taken | State::Reading) && slot.receiver == listener.0
        })
    }

    fn lose(&mut self, database: u32, was_taken: impl Fn(&Slot) -> bool) -> Vec<u64> {
        let is_anybody_left = self.is_anybody_listening(database);
        let mut latches = Vec::new();
        for place in 0..self.slots.len() {
            let slot = self.slots[place];
            let waits_for_nobody =
                slot.state == State::Posted && slot.database == database && !is_anybody_left;
            if !was_taken(&slot) && !waits_for_nobody {
                continue;
            }
            if waits_for_nobody {
                self.unqueue(number(place));
            }
            if slot.is_abandoned {
                self.free(place);
            } else {
                self.slots[place].state = State::Lost;
                latches.push(slot.caller);
            }
        }
        latches.extend(self.hand_over(database));
        latches
    }

    /// Takes up to `max` requests. When there are none, the next one that is posted wakes the receiver.
    pub fn take(&mut self, listener: Listener, max: usize) -> Vec<Taken> {
        let receiver = &mut self.receivers[index(listener.0)];
        receiver.is_retired = false;
        let database = receiver.database;
        let mut taken = Vec::new();
        let (mut before, mut at) = (NONE, self.header.first_posted);
        while at != NONE && taken.len() < max {
            let place = index(at);
            let next = self.slots[place].next;
            if self.slots[place].database == database {
                self.unlink(before, at);
                let slot = &mut self.slots[place];
                slot.state = State::Reading;
                slot.receiver = listener.0;
                taken.push(Taken {
                    ticket: Ticket {
                        slot: at,
                        generation: slot.generation,
                    },
                    deadline: slot.deadline,
                    length: index(slot.length),
                    blocks: self.chain(place),
                });
            } else {
                before = at;
            }
            at = next;
        }
        self.receivers[index(listener.0)].is_waiting = taken.is_empty();
        taken
    }

    /// The receiver is awake for another reason; returns what wakes another one, if a request had woken this one.
    pub fn stop_waiting(&mut self, listener: Listener) -> Option<u64> {
        let receiver = &mut self.receivers[index(listener.0)];
        receiver.is_waiting = false;
        let database = receiver.database;
        self.hand_over(database)
    }

    /// The receiver has copied a request out. True: there is more room now, because the caller has given up meanwhile.
    pub fn copied(&mut self, ticket: Ticket) -> bool {
        self.hand_on(ticket, State::Reading, State::Taken).is_none()
    }

    /// Where an answer of this length is to be written, before [`Ring::answered`]; `None` when nobody waits for it any more.
    ///
    /// # Errors
    /// When there is no room; an answer that is no longer than its request always has room.
    pub fn begin_answer(
        &mut self,
        ticket: Ticket,
        database: u32,
        length: usize,
    ) -> Result<Option<Vec<u32>>, Full> {
        let waiting = self.find(ticket).filter(|place| {
            let slot = &self.slots[*place];
            slot.state == State::Taken && slot.database == database
        });
        let Some(place) = waiting else {
            return Ok(None);
        };
        let wanted = self.blocks_for(length);
        let held = self.blocks_for(index(self.slots[place].length));
        if index(wanted) > self.links.len() {
            return Err(Full::ForEver);
        }
        if wanted.saturating_sub(held) > self.header.free_blocks {
            return Err(Full::ForNow);
        }
        self.resize(place, wanted);
        self.slots[place].length = u32::try_from(length).unwrap_or(u32::MAX);
        self.slots[place].state = State::Answering;
        Ok(Some(self.chain(place)))
    }

    /// The answer has been written; returns what wakes the caller, unless it has given up.
    pub fn answered(&mut self, ticket: Ticket) -> Option<u64> {
        self.hand_on(ticket, State::Answering, State::Answered)
    }

    #[cfg(test)]
    pub(super) fn used_slots(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.state != State::Free)
            .count()
    }

    fn hand_on(&mut self, ticket: Ticket, from: State, to: State) -> Option<u64> {
        let place = self
            .find(ticket)
            .filter(|place| self.slots[*place].state == from)?;
        if self.slots[place].is_abandoned {
            self.free(place);
            return None;
        }
        self.slots[place].state = to;
        Some(self.slots[place].caller)
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        let place = index(ticket.slot);
        let slot = self.slots.get(place)?;
        (slot.generation == ticket.generation && slot.state != State::Free).then_some(place)
    }
}
