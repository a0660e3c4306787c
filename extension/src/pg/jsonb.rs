//! Values inside jsonb, without turning them into text.

use actionflow_core::mapping::Wanted;
use pgrx::datum::{AnyNumeric, FromDatum, IntoDatum};
use pgrx::direct_function_call_as_datum;
use pgrx::pg_sys::{self, Datum};

use super::jsonb_reader::Container;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonType {
    Null,
    Text,
    Number,
    Boolean,
    Array,
    Object,
}

/// The steps of a path, as the array that Postgres wants.
#[derive(Debug)]
pub(crate) struct Path {
    steps: Vec<String>,
}

impl Path {
    pub(crate) fn new(steps: Vec<String>) -> Self {
        Self { steps }
    }

    pub(crate) fn steps(&self) -> &[String] {
        &self.steps
    }

    /// The value at the path, as jsonb; `None` when there is none or it is null.
    pub(crate) fn find(&self, jsonb: Datum) -> Option<Datum> {
        let found = if self.steps.is_empty() {
            jsonb
        } else {
            let steps = self.steps.clone().into_datum();
            // SAFETY: the arguments are of the types that the function wants; it needs no context of a call.
            unsafe {
                direct_function_call_as_datum(pg_sys::jsonb_extract_path, &[Some(jsonb), steps])?
            }
        };
        (json_type(found) != JsonType::Null).then_some(found)
    }
}

fn detoasted(jsonb: Datum) -> *mut pg_sys::Jsonb {
    let value = jsonb.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: a jsonb value; the copy, if one is needed, is memory of the current context. It seldom is, and the call would cost
    // a tenth of a microsecond.
    unsafe {
        if pgrx::varlena::varatt_is_4b_u(value) {
            return value.cast();
        }
        pg_sys::pg_detoast_datum(value).cast()
    }
}

/// A document in full; `None` when it nests deeper than 128 levels. A third of what going by its text takes.
pub(crate) fn to_json(jsonb: Datum) -> Option<serde_json::Value> {
    with_bytes(jsonb, |bytes| Container::new(bytes)?.to_json())
}

/// What is wanted of a document; `None` when the document nests deeper than 128 levels.
pub(crate) fn to_json_of(jsonb: Datum, wanted: &Wanted) -> Option<serde_json::Value> {
    with_bytes(jsonb, |bytes| Container::new(bytes)?.to_json_of(wanted))
}

/// The size of a document, in bytes as it is stored.
pub(crate) fn size(jsonb: Datum) -> usize {
    // SAFETY: a jsonb value; the size of one that is compressed or stored elsewhere is in its header.
    unsafe { pg_sys::toast_raw_datum_size(jsonb) }
}

/// Calls `look` with the bytes of a document behind its length; see [`super::jsonb_reader`].
pub(crate) fn with_bytes<T>(jsonb: Datum, look: impl FnOnce(&[u8]) -> T) -> T {
    let value = detoasted(jsonb).cast::<pg_sys::varlena>();
    // SAFETY: the value is whole, and lives at least as long as this call.
    let bytes = unsafe {
        let length = pgrx::varlena::varsize_any_exhdr(value);
        std::slice::from_raw_parts(pgrx::varlena::vardata_any(value).cast::<u8>(), length)
    };
    look(bytes)
}

fn scalar(jsonb: Datum) -> Option<pg_sys::JsonbValue> {
    let mut value = pg_sys::JsonbValue::default();
    let jsonb = detoasted(jsonb);
    // SAFETY: the container lies inside the value, which is whole.
    let is_scalar = unsafe { pg_sys::JsonbExtractScalar(&raw mut (*jsonb).root, &mut value) };
    is_scalar.then_some(value)
}

pub(crate) fn json_type(jsonb: Datum) -> JsonType {
    match scalar(jsonb).map(|value| value.type_) {
        Some(pg_sys::jbvType::jbvNull) => JsonType::Null,
        Some(pg_sys::jbvType::jbvString) => JsonType::Text,
        Some(pg_sys::jbvType::jbvNumeric) => JsonType::Number,
        Some(pg_sys::jbvType::jbvBool) => JsonType::Boolean,
        _ => with_bytes(jsonb, |bytes| match Container::new(bytes) {
            Some(root) if root.is_object() => JsonType::Object,
            _ => JsonType::Array,
        }),
    }
}

/// Calls `look` with the text of a JSON string; `None` for anything else.
pub(crate) fn with_text<T>(jsonb: Datum, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let value = scalar(jsonb)?;
    if value.type_ != pg_sys::jbvType::jbvString {
        return None;
    }
    // SAFETY: the type says which member is set; the bytes lie in the value that `scalar` has read.
    let bytes = unsafe {
        let text = value.val.string;
        std::slice::from_raw_parts(
            text.val.cast::<u8>(),
            usize::try_from(text.len).unwrap_or_default(),
        )
    };
    Some(look(bytes))
}

/// A JSON number; `None` for anything else.
pub(crate) fn number(jsonb: Datum) -> Option<AnyNumeric> {
    let value = scalar(jsonb)?;
    if value.type_ != pg_sys::jbvType::jbvNumeric {
        return None;
    }
    // SAFETY: the type says which member is set: a numeric value.
    unsafe { AnyNumeric::from_datum(Datum::from(value.val.numeric), false) }
}

/// Whether a document contains another one (`@>`).
pub(crate) fn contains(jsonb: Datum, other: Datum) -> bool {
    // SAFETY: the arguments are of the types that the function wants.
    unsafe {
        direct_function_call_as_datum(pg_sys::jsonb_contains, &[Some(jsonb), Some(other)])
            .is_some_and(|holds| holds.value() != 0)
    }
}
