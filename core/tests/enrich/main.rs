//! Answers, the tokens that sign them, and the tokens that are sent.

mod answers;
mod keys;
mod sets;
mod tokens;
mod vectors;

use actionflow_core::jose::AnswerKey;
use serde_json::json;

/// When the vectors were signed.
const NOW: i64 = 1_458_496_025;
/// What the vectors answer.
const REQUEST: &str = "123";

fn answer_key(algorithm: &str, key: &str) -> AnswerKey {
    AnswerKey::parse(&json!({"algorithm": algorithm, "key": key})).expect("a good key")
}
