//! Reads jsonb as it lies in memory, without a copy.
//!
//! The layout is that of Postgres' `jsonb.h`, which has not changed since 9.4: what is on disk is what is in memory.

use std::ffi::CStr;

use pgrx::direct_function_call;
use pgrx::pg_sys::{self, Datum};
use serde_json::{Number, Value};

/// A container's header: flags, and how many elements or pairs it has.
const COUNT: u32 = 0x0FFF_FFFF;
const IS_SCALAR: u32 = 0x1000_0000;
const IS_OBJECT: u32 = 0x2000_0000;
/// An entry's: type, and where the value ends, or how long it is.
const ENTRY_HAS_OFFSET: u32 = 0x8000_0000;
const ENTRY_TYPE: u32 = 0x7000_0000;
const ENTRY_LENGTH: u32 = 0x0FFF_FFFF;
const TYPE_TEXT: u32 = 0;
const TYPE_NUMBER: u32 = 0x1000_0000;
const TYPE_FALSE: u32 = 0x2000_0000;
const TYPE_TRUE: u32 = 0x3000_0000;
const TYPE_NULL: u32 = 0x4000_0000;
const TYPE_CONTAINER: u32 = 0x5000_0000;
/// As deep as `serde_json` reads text.
pub(super) const MAX_DEPTH: usize = 128;
/// Values that are aligned begin at multiples of this.
const ALIGNMENT: usize = 4;
const WORD: usize = size_of::<u32>();

/// An array or an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Container<'a> {
    bytes: &'a [u8],
    /// Where the container begins in a value that is aligned.
    header: u32,
}

/// A key, a member or an element as it lies there, of which only the length is known yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    kind: u32,
    /// Without the padding before a value that is aligned.
    bytes: &'a [u8],
}

/// What an array or an object holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    Text(&'a str),
    /// A numeric value, with its length before it.
    Number(&'a [u8]),
    Boolean(bool),
    Null,
    Container(Container<'a>),
    /// Bytes that are not as they should be.
    Broken,
}

impl<'a> Container<'a> {
    /// The root of a document: the bytes of a jsonb value behind its length. `None` for what is none.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let header = word(bytes, 0)?;
        Some(Self { bytes, header })
    }

    fn count(&self) -> usize {
        usize::try_from(self.header & COUNT).unwrap_or_default()
    }

    /// The pairs of an object; nothing for anything else.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> + use<'a> {
        self.entry_pairs()
            .filter_map(|(key, value)| match key.item() {
                Item::Text(key) => Some((key, value.item())),
                _ => None,
            })
    }

    /// The pairs of an object, ordered by the length of their keys, and then by their bytes.
    pub(super) fn entry_pairs(&self) -> impl Iterator<Item = (Entry<'a>, Entry<'a>)> + use<'a> {
        let count = if self.is_object() { self.count() } else { 0 };
        // Keys come first, all of them, and then the values.
        let keys = self.entries_of(count * 2).take(count);
        keys.zip(self.entries_of(count * 2).skip(count))
    }

    /// Everything inside: the elements of an array; the keys and then the values of an object.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.entries_of(self.count() * if self.is_object() { 2 } else { 1 })
    }

    pub(super) fn is_object(&self) -> bool {
        self.header & IS_OBJECT != 0
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The elements of an array; nothing for anything else.
    pub(crate) fn elements(&self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        self.element_entries().map(Entry::item)
    }

    fn element_entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let is_array = self.header & (IS_OBJECT | IS_SCALAR) == 0;
        self.entries_of(if is_array { self.count() } else { 0 })
    }

    /// The whole document; `None` when it nests deeper than 128 levels.
    pub(crate) fn to_json(self) -> Option<Value> {
        if self.header & IS_SCALAR != 0 {
            return self.entries_of(1).next()?.item().to_json(0);
        }
        Item::Container(self).to_json(0)
    }

    fn entries_of(&self, count: usize) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let bytes = self.bytes;
        let data = WORD + count * WORD;
        let mut end = 0;
        (0..count).map_while(move |index| {
            let entry = word(bytes, WORD + index * WORD)?;
            let start = end;
            let length = usize::try_from(entry & ENTRY_LENGTH).ok()?;
            end = if entry & ENTRY_HAS_OFFSET != 0 {
                length
            } else {
                start + length
            };
            let kind = entry & ENTRY_TYPE;
            let first = match kind {
                TYPE_NUMBER | TYPE_CONTAINER => (data + start).next_multiple_of(ALIGNMENT),
                _ => data + start,
            };
            let bytes = bytes.get(first..data + end)?;
            Some(Entry { kind, bytes })
        })
    }
}

impl<'a> Entry<'a> {
    pub(super) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn container(self) -> Option<Container<'a>> {
        if self.kind != TYPE_CONTAINER {
            return None;
        }
        Container::new(self.bytes)
    }

    pub(super) fn item(self) -> Item<'a> {
        match self.kind {
            TYPE_TEXT => text(self.bytes),
            TYPE_NUMBER => Item::Number(self.bytes),
            TYPE_FALSE => Item::Boolean(false),
            TYPE_TRUE => Item::Boolean(true),
            TYPE_NULL => Item::Null,
            _ => self.container().map_or(Item::Broken, Item::Container),
        }
    }
}

fn text(bytes: &[u8]) -> Item<'_> {
    std::str::from_utf8(bytes).map_or(Item::Broken, Item::Text)
}

impl Item<'_> {
    pub(super) fn to_json(self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match self {
            Self::Text(text) => Value::String(text.to_owned()),
            Self::Number(numeric) => {
                Value::Number(Number::from_string_unchecked(numeric_text(numeric)?))
            }
            Self::Boolean(value) => Value::Bool(value),
            Self::Null => Value::Null,
            Self::Container(container) if container.header & IS_OBJECT != 0 => Value::Object(
                container
                    .pairs()
                    .map(|(key, value)| Some((key.to_owned(), value.to_json(depth + 1)?)))
                    .collect::<Option<_>>()?,
            ),
            Self::Container(container) => Value::Array(
                container
                    .elements()
                    .map(|value| value.to_json(depth + 1))
                    .collect::<Option<_>>()?,
            ),
            Self::Broken => return None,
        })
    }
}

fn numeric_text(numeric: &[u8]) -> Option<String> {
    let datum = Datum::from(numeric.as_ptr());
    // SAFETY: a whole numeric value, aligned as it lies in the document; the text is a copy in the current context.
    unsafe {
        let text: &CStr = direct_function_call(pg_sys::numeric_out, &[Some(datum)])?;
        text.to_str().ok().map(str::to_owned)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + WORD)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// Headers of a request whose names are wanted: of an object whose values are texts or arrays of texts, or of an array of pairs.
/// What is anything else is no header.
pub(crate) fn header_pairs(jsonb: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> Vec<(&str, &str)> {
    let Some(root) = Container::new(jsonb) else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    // Texts are checked to be UTF-8 when they are read, so that of headers which nobody wants only the name is looked at.
    for (name, value) in root.entry_pairs() {
        if !is_wanted(name.bytes) {
            continue;
        }
        match (name.item(), value.item()) {
            (Item::Text(name), Item::Text(value)) => headers.push((name, value)),
            (Item::Text(name), Item::Container(list)) => {
                headers.extend(list.elements().filter_map(|value| match value {
                    Item::Text(value) => Some((name, value)),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    for pair in root.element_entries().filter_map(Entry::container) {
        let mut parts = pair.element_entries();
        let (Some(name), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if !is_wanted(name.bytes) {
            continue;
        }
        if let (Item::Text(name), Item::Text(value)) = (name.item(), value.item()) {
            headers.push((name, value));
        }
    }
    headers
}
