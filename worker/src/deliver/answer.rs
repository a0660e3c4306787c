//! What an endpoint's response answers to an enrich step, whether a caller waits for it or the queue does.

use std::time::SystemTime;

use actionflow_core::enrich::answer::{Answer, AnswerError, MAX_ANSWER_BYTES, read};
use actionflow_core::enrich::reply::FailureKind;

use super::{Endpoint, Response, unix_seconds};

/// Why a response is not an answer, for the endpoint's owner. It never repeats the response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{}", answered(*.0))]
    Status(u16),
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl Unusable {
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Status(_) => FailureKind::Status,
            Self::TooLarge => FailureKind::TooLarge,
            Self::Answer(_) => FailureKind::Answer,
        }
    }
}

/// The answer that a response holds. `id` is that of the request.
///
/// # Errors
/// When it has another status than 200, is too large, or is not an answer that can be believed.
pub(crate) fn usable(
    endpoint: &Endpoint,
    id: i64,
    response: &Response,
    now: SystemTime,
) -> Result<Answer, Unusable> {
    if response.status != 200 {
        return Err(Unusable::Status(response.status));
    }
    if !response.is_whole {
        return Err(Unusable::TooLarge);
    }
    let answer = read(
        &response.body,
        response.content_type.as_deref(),
        endpoint.answer_key.as_ref(),
        &id.to_string(),
        unix_seconds(now),
    );
    Ok(answer?)
}

/// How a status that is no success is told.
pub(crate) fn answered(status: u16) -> String {
    format!("the endpoint answered {status}")
}
