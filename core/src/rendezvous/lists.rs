//! The lists that the ring is made of: blocks of a slot, free blocks, free slots, the queue.

use super::ring::Ring;
use super::types::{NONE, Slot, index, number};

impl Ring<'_> {
    /// Every slot has at least one block, so that a short answer always has room.
    pub(super) fn blocks_for(&self, length: usize) -> u32 {
        number(length.div_ceil(self.block_size).max(1))
    }

    pub(super) fn chain(&self, place: usize) -> Vec<u32> {
        let first = Some(self.slots[place].first_block).filter(|block| *block != NONE);
        std::iter::successors(first, |block| {
            Some(self.links[index(*block)]).filter(|next| *next != NONE)
        })
        .collect()
    }

    /// Gives a slot so many blocks; there must be enough.
    pub(super) fn resize(&mut self, place: usize, wanted: u32) {
        let mut blocks = self.chain(place);
        while blocks.len() > index(wanted) {
            if let Some(block) = blocks.pop() {
                self.links[index(block)] = self.header.free_block;
                self.header.free_block = block;
                self.header.free_blocks += 1;
            }
        }
        while blocks.len() < index(wanted) {
            let block = self.header.free_block;
            self.header.free_block = self.links[index(block)];
            self.header.free_blocks -= 1;
            blocks.push(block);
        }
        for (position, block) in blocks.iter().enumerate() {
            self.links[index(*block)] = blocks.get(position + 1).copied().unwrap_or(NONE);
        }
        self.slots[place].first_block = blocks.first().copied().unwrap_or(NONE);
    }

    pub(super) fn free(&mut self, place: usize) {
        self.resize(place, 0);
        self.slots[place] = Slot {
            generation: self.slots[place].generation,
            next: self.header.free_slot,
            ..Slot::FREE
        };
        self.header.free_slot = number(place);
    }

    pub(super) fn unqueue(&mut self, slot: u32) {
        let (mut before, mut at) = (NONE, self.header.first_posted);
        while at != NONE && at != slot {
            before = at;
            at = self.slots[index(at)].next;
        }
        if at == slot {
            self.unlink(before, at);
        }
    }

    /// Takes a slot out of the queue, whose predecessor is known.
    pub(super) fn unlink(&mut self, before: u32, slot: u32) {
        let next = self.slots[index(slot)].next;
        match before {
            NONE => self.header.first_posted = next,
            before => self.slots[index(before)].next = next,
        }
        if self.header.last_posted == slot {
            self.header.last_posted = before;
        }
        self.slots[index(slot)].next = NONE;
    }
}
