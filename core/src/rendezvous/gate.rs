//! What stands before an endpoint: how many requests may be under way at once, and the circuit breaker.
//!
//! The breaker is closed until so many requests in a row have failed by the endpoint's fault; then it is open for a time, in which
//! every request is refused at once; then half open: one request is let through as a probe, and its end closes or opens it.

/// The state of an endpoint's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u32)]
pub enum State {
    /// Requests pass.
    #[default]
    Closed,
    /// Requests are refused.
    Open,
    /// A probe is under way; others are refused.
    HalfOpen,
}

/// One endpoint's gate. Times are microseconds of any clock that moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Gate {
    /// Of the breaker.
    pub state: State,
    /// Failures in a row.
    pub failures: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// While open: when a probe is let through.
    pub open_until: i64,
}

/// What an endpoint allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests at once; `None` for no limit.
    pub max_in_flight: Option<u32>,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// For how long it is open, in microseconds.
    pub breaker_time: i64,
}

/// The right to make one request, to be given back with [`Gate::leave`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Admission {
    /// An ordinary request.
    Ordinary,
    /// The one that finds out whether the endpoint is well again.
    Probe,
}

/// Why a request may not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The endpoint has failed too often.
    BreakerOpen,
    /// Too many requests are under way.
    TooManyInFlight,
}

/// How an admitted request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint gave a usable answer.
    Answered,
    /// It did not, by its own fault.
    Failed,
    /// The request ended for a reason that says nothing about the endpoint.
    Unknown,
}

impl Gate {
    /// Asks for a request.
    ///
    /// # Errors
    /// When it may not be made now.
    pub fn admit(&mut self, limits: Limits, now: i64) -> Result<Admission, Refusal> {
        let is_probe = match self.state {
            State::Closed => false,
            State::Open if now >= self.open_until => true,
            State::Open | State::HalfOpen => return Err(Refusal::BreakerOpen),
        };
        if limits
            .max_in_flight
            .is_some_and(|max| self.in_flight >= max)
        {
            return Err(Refusal::TooManyInFlight);
        }
        self.in_flight += 1;
        if is_probe {
            self.state = State::HalfOpen;
            return Ok(Admission::Probe);
        }
        Ok(Admission::Ordinary)
    }

    /// A request has ended.
    pub fn leave(&mut self, admission: Admission, outcome: Outcome, limits: Limits, now: i64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match (self.state, admission, outcome) {
            (State::HalfOpen, Admission::Probe, Outcome::Answered) => {
                self.state = State::Closed;
                self.failures = 0;
            }
            (State::HalfOpen, Admission::Probe, Outcome::Failed) => self.open(limits, now),
            // The next request may be the probe at once.
            (State::HalfOpen, Admission::Probe, Outcome::Unknown) => {
                self.state = State::Open;
                self.open_until = now;
            }
            (State::Closed, _, Outcome::Answered) => self.failures = 0,
            (State::Closed, _, Outcome::Failed) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= limits.breaker_failures {
                    self.open(limits, now);
                }
            }
            // A request from before the breaker opened says nothing new.
            _ => {}
        }
    }

    fn open(&mut self, limits: Limits, now: i64) {
        self.state = State::Open;
        self.open_until = now.saturating_add(limits.breaker_time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Answered, Failed, Unknown};

    const LIMITS: Limits = Limits {
        max_in_flight: Some(2),
        breaker_failures: 3,
        breaker_time: 100,
    };

    fn once(gate: &mut Gate, outcome: Outcome, now: i64) {
        let admission = gate.admit(LIMITS, now).expect("admitted");
        gate.leave(admission, outcome, LIMITS, now);
    }

    #[test]
    fn only_failures_in_a_row_open_it_and_a_probe_closes_it() {
        let mut gate = Gate::default();
        for outcome in [Failed, Failed, Answered, Failed, Unknown, Failed] {
            once(&mut gate, outcome, 0);
        }
        assert_eq!(gate.state, State::Closed);
        once(&mut gate, Failed, 0);
        assert_eq!(gate.admit(LIMITS, 99), Err(Refusal::BreakerOpen));
        let probe = gate.admit(LIMITS, 100).expect("a probe");
        assert_eq!(gate.admit(LIMITS, 101), Err(Refusal::BreakerOpen));
        gate.leave(probe, Failed, LIMITS, 150);
        assert_eq!(gate.admit(LIMITS, 249), Err(Refusal::BreakerOpen));
        once(&mut gate, Unknown, 250);
        once(&mut gate, Answered, 250);
        assert_eq!(
            gate,
            Gate {
                open_until: 250,
                ..Gate::default()
            }
        );
    }

    #[test]
    fn requests_at_once_are_limited_and_late_ends_change_nothing_of_an_open_breaker() {
        let mut gate = Gate::default();
        let first = gate.admit(LIMITS, 0).expect("admitted");
        let second = gate.admit(LIMITS, 0).expect("admitted");
        assert_eq!(gate.admit(LIMITS, 0), Err(Refusal::TooManyInFlight));
        gate.leave(second, Failed, LIMITS, 0);
        once(&mut gate, Failed, 0);
        once(&mut gate, Failed, 0);
        assert_eq!(gate.state, State::Open);
        gate.leave(first, Answered, LIMITS, 50);
        assert_eq!((gate.state, gate.in_flight), (State::Open, 0));
    }
}
