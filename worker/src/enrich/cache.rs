//! Answers that serve later requests, for as long as the action says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actionflow_core::enrich::answer::{Answer, Decision};
use actionflow_core::enrich::reply::Reply;
use moka::Expiry;
use moka::sync::Cache;

use super::Head;

/// What all answers together may hold, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// What an entry costs beside its texts, about.
const ENTRY_BYTES: usize = 256;

/// An endpoint as it was configured, and what the request was about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    endpoint_id: i64,
    endpoint_revision: i64,
    cache_key: String,
}

impl Key {
    /// The place of this request's answer, and for how long it stays there; `None` when answers are not to be kept.
    pub(super) fn of(head: &Head) -> Option<(Self, Duration)> {
        let seconds = head.cache_seconds.filter(|&seconds| seconds > 0)?;
        let key = Self {
            endpoint_id: head.endpoint_id,
            endpoint_revision: head.endpoint_revision,
            cache_key: head.cache_key.clone()?,
        };
        Some((key, Duration::from_secs(seconds.into())))
    }
}

/// A usable answer, in the form in which it is handed over.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) reply: String,
    pub(super) decision: Decision,
    pub(super) reason: Option<String>,
}

impl From<Answer> for Answered {
    fn from(answer: Answer) -> Self {
        Self {
            decision: answer.action,
            reason: answer.reason.clone(),
            reply: Reply::Answer(answer).to_json().to_string(),
        }
    }
}

#[derive(Clone)]
struct Kept {
    answered: Arc<Answered>,
    lifetime: Duration,
}

/// The answers of all endpoints, the oldest forgotten first when there are too many.
pub(super) struct Answers(Cache<Key, Kept>);

impl Answers {
    pub(super) fn new() -> Self {
        let weigh = |key: &Key, kept: &Kept| {
            let reason = kept.answered.reason.as_ref().map_or(0, String::len);
            let bytes = ENTRY_BYTES + key.cache_key.len() + kept.answered.reply.len() + reason;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let answers = Cache::builder()
            .weigher(weigh)
            .max_capacity(MAX_BYTES)
            .expire_after(OwnLifetime)
            .build();
        Self(answers)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Answered>> {
        self.0.get(key).map(|kept| kept.answered)
    }

    pub(super) fn keep(&self, key: Key, answered: Arc<Answered>, lifetime: Duration) {
        let kept = Kept { answered, lifetime };
        self.0.insert(key, kept);
    }
}

/// Each entry lives as long as its own action says.
struct OwnLifetime;

impl Expiry<Key, Kept> for OwnLifetime {
    fn expire_after_create(&self, _: &Key, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        kept: &Kept,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.lifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(endpoint_revision: i64, cache_key: Option<&str>, cache_seconds: Option<u32>) -> Head {
        Head {
            id: 1,
            endpoint_id: 1,
            endpoint_revision,
            url: String::new(),
            flow_id: None,
            run_id: None,
            event_id: None,
            action: String::new(),
            user_id: String::new(),
            mode: String::new(),
            cache_key: cache_key.map(str::to_owned),
            cache_seconds,
        }
    }

    fn answered(reply: String) -> Arc<Answered> {
        Arc::new(Answered {
            reply,
            decision: Decision::Block,
            reason: None,
        })
    }

    #[test]
    fn only_a_request_with_a_key_and_a_time_is_answered_from_the_cache() {
        assert_eq!(Key::of(&head(1, None, Some(30))), None);
        assert_eq!(Key::of(&head(1, Some("k"), None)), None);
        assert_eq!(Key::of(&head(1, Some("k"), Some(0))), None);
        let (key, lifetime) = Key::of(&head(1, Some("k"), Some(30))).unwrap();
        assert_eq!(lifetime, Duration::from_secs(30));
        let answers = Answers::new();
        answers.keep(key.clone(), answered("r".to_owned()), lifetime);
        assert_eq!(answers.get(&key).unwrap().reply, "r");
        for other in [
            head(2, Some("k"), Some(30)),
            head(1, Some("other"), Some(30)),
        ] {
            let (other, _) = Key::of(&other).unwrap();
            assert!(answers.get(&other).is_none());
        }
    }

    #[test]
    fn an_answer_is_forgotten_after_its_own_time() {
        let answers = Answers::new();
        let (short, _) = Key::of(&head(1, Some("short"), Some(1))).unwrap();
        let (long, _) = Key::of(&head(1, Some("long"), Some(3600))).unwrap();
        answers.keep(
            short.clone(),
            answered(String::new()),
            Duration::from_millis(1),
        );
        answers.keep(
            long.clone(),
            answered(String::new()),
            Duration::from_secs(3600),
        );
        std::thread::sleep(Duration::from_millis(20));
        assert!(answers.get(&short).is_none());
        assert!(answers.get(&long).is_some());
    }

    #[test]
    fn all_answers_together_are_bounded_by_their_bytes() {
        let answers = Answers::new();
        for number in 0..100 {
            let (key, lifetime) = Key::of(&head(1, Some(&number.to_string()), Some(3600))).unwrap();
            answers.keep(key, answered("x".repeat(1 << 20)), lifetime);
        }
        answers.0.run_pending_tasks();
        assert!(answers.0.weighted_size() <= MAX_BYTES);
        assert!(answers.0.entry_count() > 32);
    }
}
