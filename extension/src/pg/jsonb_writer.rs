//! Makes jsonb of JSON without writing and reading its text.

use std::ffi::CString;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys::{self, Datum, JsonbPair, JsonbValue, jbvType};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{IntoDatum, direct_function_call_as_datum};
use serde_json::{Map, Value};

/// A jsonb value in memory of the context in which it was made: what a function returns.
#[derive(Debug)]
pub(crate) struct Written(Datum);

impl Written {
    /// `None` for numbers that `numeric` cannot hold, and for what is longer than Postgres counts.
    ///
    /// The texts must hold no U+0000, which nothing looks for here.
    pub(crate) fn new(json: &Value) -> Option<Self> {
        let mut tree = Tree::default();
        let mut root = tree.value(json)?;
        // SAFETY: a whole tree, whose parts live as long as `tree` and `json`; what is returned is a copy.
        let jsonb = unsafe { pg_sys::JsonbValueToJsonb(&raw mut root) };
        drop(tree);
        Some(Self(Datum::from(jsonb)))
    }

    pub(crate) fn datum(&self) -> Datum {
        self.0
    }
}

/// The parts of the tree that Postgres reads: they stay where they are while it grows.
#[derive(Default)]
struct Tree {
    elements: Vec<Vec<JsonbValue>>,
    pairs: Vec<Vec<JsonbPair>>,
}

impl Tree {
    fn value(&mut self, json: &Value) -> Option<JsonbValue> {
        let mut value = JsonbValue::default();
        match json {
            Value::Null => value.type_ = jbvType::jbvNull,
            Value::Bool(boolean) => {
                value.type_ = jbvType::jbvBool;
                value.val.boolean = *boolean;
            }
            Value::Number(number) => {
                value.type_ = jbvType::jbvNumeric;
                value.val.numeric = numeric(number.as_str())?;
            }
            Value::String(text) => value = string(text)?,
            Value::Array(list) => self.array(&mut value, list)?,
            Value::Object(map) => self.object(&mut value, map)?,
        }
        Some(value)
    }

    fn array(&mut self, value: &mut JsonbValue, list: &[Value]) -> Option<()> {
        let mut elements = list
            .iter()
            .map(|element| self.value(element))
            .collect::<Option<Vec<_>>>()?;
        value.type_ = jbvType::jbvArray;
        value.val.array = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_2 {
            nElems: elements.len().try_into().ok()?,
            elems: elements.as_mut_ptr(),
            rawScalar: false,
        };
        self.elements.push(elements);
        Some(())
    }

    /// Postgres expects the pairs in its own order of keys, each key once.
    fn object(&mut self, value: &mut JsonbValue, map: &Map<String, Value>) -> Option<()> {
        let mut members: Vec<(&String, &Value)> = map.iter().collect();
        members.sort_unstable_by_key(|(key, _)| (key.len(), key.as_bytes()));
        let mut pairs = members
            .into_iter()
            .map(|(key, member)| {
                Some(JsonbPair {
                    key: string(key)?,
                    value: self.value(member)?,
                    order: 0,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        value.type_ = jbvType::jbvObject;
        value.val.object = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_3 {
            nPairs: pairs.len().try_into().ok()?,
            pairs: pairs.as_mut_ptr(),
        };
        self.pairs.push(pairs);
        Some(())
    }
}

fn string(text: &str) -> Option<JsonbValue> {
    let mut value = JsonbValue {
        type_: jbvType::jbvString,
        ..JsonbValue::default()
    };
    value.val.string = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_1 {
        len: text.len().try_into().ok()?,
        // Postgres only reads it.
        val: text.as_ptr().cast_mut().cast(),
    };
    Some(value)
}

/// What Postgres makes of the number's text, in memory of the current context; an error of its own when that is too much.
fn numeric(text: &str) -> Option<pg_sys::Numeric> {
    let text = CString::new(text).ok()?;
    let any_precision = (-1_i32).into_datum();
    let arguments = [
        Some(Datum::from(text.as_ptr())),
        pg_sys::InvalidOid.into_datum(),
        any_precision,
    ];
    // SAFETY: the arguments are of the types that the function wants: a text that ends with NUL, a type and its modifier.
    let numeric = unsafe { direct_function_call_as_datum(pg_sys::numeric_in, &arguments)? };
    Some(numeric.cast_mut_ptr())
}

// SAFETY: the value is jsonb, and lives in memory of Postgres.
unsafe impl BoxRet for Written {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: made in this call, in the context that was current.
        unsafe { fcinfo.return_raw_datum(self.datum()) }
    }
}

// SAFETY: what it is, it says.
unsafe impl SqlTranslatable for Written {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Written);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}
