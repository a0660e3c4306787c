//! Segments: rules over customers, what they mean, and when that may change by the clock alone.
//!
//! A rule is parsed (`rule`) and brought into a form without inner negation (`formula`), whose leaves are conditions. Each
//! condition has a truth and a moment at which that may change (`truth`, `window`). What a condition says about a row of
//! a table depends on the table's types, so that part is in the extension.

pub mod duration;
pub mod formula;
pub mod moment;
mod parse;
pub mod rule;
pub mod truth;
pub mod window;
