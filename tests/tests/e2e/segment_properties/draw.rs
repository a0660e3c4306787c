//! Drawing lots, and writing what was drawn.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// True in so many of a hundred cases.
pub(crate) fn chance(rng: &mut StdRng, percent: u32) -> bool {
    rng.random_ratio(percent, 100)
}

/// From `least` to `greatest`, both included.
pub(crate) fn number(rng: &mut StdRng, least: usize, greatest: usize) -> usize {
    rng.random_range(least..=greatest)
}

pub(crate) fn pick<T: Copy>(rng: &mut StdRng, list: &[T]) -> T {
    *list.choose(rng).expect("a list is not empty")
}

/// A string constant that means the same whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

pub(crate) fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
