//! Mappings: parts found by queries, scripts, and what scripts may not do.

mod checks;
mod fields;
mod queries;
mod wanted;

#[cfg(feature = "javascript")]
mod attacks;
#[cfg(feature = "javascript")]
mod isolation;
#[cfg(feature = "javascript")]
mod scripts;

use actionflow_core::input;
use actionflow_core::mapping::{Failure, Mapping, Request};
use serde_json::Value;

/// A request without headers.
const REQUEST: Request<'static> = Request {
    method: "POST",
    headers: &[],
};

fn refused(mapping: &Value) -> input::Error {
    Mapping::parse(mapping).expect_err("must be refused")
}

/// What a good mapping makes of a payload, which nobody interrupts.
fn apply(mapping: &Value, payload: &Value) -> Result<Value, Failure> {
    Mapping::parse(mapping)
        .expect("a good mapping")
        .apply(payload, &REQUEST, || false)
}
