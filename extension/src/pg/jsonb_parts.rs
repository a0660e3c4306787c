//! Reads of a document what somebody wants, and no more: most of a large payload is never looked at.

use actionflow_core::mapping::Wanted;
use serde_json::{Map, Value};

use super::jsonb_reader::{Container, Entry, Item, MAX_DEPTH};

/// What a level of nesting takes at least: the header of a container and its only entry.
const LEVEL_BYTES: usize = 2 * size_of::<u32>();

impl Container<'_> {
    /// The document without what is not wanted of it; `None` when all of it nests deeper than 128 levels.
    pub(crate) fn to_json_of(self, wanted: &Wanted) -> Option<Value> {
        match wanted {
            Wanted::All => self.to_json(),
            Wanted::Members(members) if self.is_object() => self.members(members, 0),
            Wanted::Members(_) => self.fits(0).then_some(Value::Null),
        }
    }

    /// Both the keys and the wanted names are ordered by length and then by bytes, so one walk along both finds them.
    fn members(self, wanted: &[(String, Wanted)], depth: usize) -> Option<Value> {
        let mut wanted = wanted.iter().peekable();
        let mut found = Map::new();
        for (key, value) in self.entry_pairs() {
            let order = (key.bytes().len(), key.bytes());
            while wanted
                .next_if(|(name, _)| (name.len(), name.as_bytes()) < order)
                .is_some()
            {}
            match wanted.next_if(|(name, _)| name.as_bytes() == key.bytes()) {
                Some((name, part)) => {
                    found.insert(name.clone(), value.to_json_of(part, depth + 1)?);
                }
                None => value.fits(depth + 1).then_some(())?,
            }
        }
        Some(Value::Object(found))
    }

    /// Whether nothing in it, at this depth, lies deeper than a document may nest.
    fn fits(self, depth: usize) -> bool {
        let is_too_short = self.len() / LEVEL_BYTES <= MAX_DEPTH.saturating_sub(depth);
        is_too_short || self.entries().all(|inner| inner.fits(depth + 1))
    }
}

impl Entry<'_> {
    fn to_json_of(self, wanted: &Wanted, depth: usize) -> Option<Value> {
        match (wanted, self.item()) {
            (Wanted::Members(members), Item::Container(object)) if object.is_object() => {
                if depth > MAX_DEPTH {
                    return None;
                }
                object.members(members, depth)
            }
            (Wanted::Members(_), _) => self.fits(depth).then_some(Value::Null),
            (Wanted::All, item) => item.to_json(depth),
        }
    }

    fn fits(self, depth: usize) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        match self.container() {
            Some(container) => container.fits(depth),
            None => true,
        }
    }
}
