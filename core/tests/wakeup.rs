//! Every interleaving of committing transactions and workers that go to sleep: no wake-up is lost.

use std::collections::HashSet;

use actionflow_core::wakeup::Wakeup;

/// Where a transaction that queues one row stands; one atomic operation or one commit between two places.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Producer {
    Working,
    Entered,
    Decided { notifies: bool },
    Ended,
    Left,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Worker {
    Looking,
    FoundNothing,
    Announced,
    LastLook { may_sleep: bool },
    Asleep,
    Woken,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    counters: (u32, u32),
    /// Rows that are committed and not yet claimed.
    visible_rows: u8,
    producers: Vec<Producer>,
    workers: Vec<(Worker, bool)>,
}

/// Which rule of the protocol to leave out, to show that the explorer would see its absence.
#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Whole,
    WithoutQuietCheck,
    WithoutLastLook,
}

impl State {
    fn new(producers: usize, workers: usize) -> Self {
        Self {
            counters: (0, 0),
            visible_rows: 0,
            producers: vec![Producer::Working; producers],
            workers: vec![(Worker::Looking, false); workers],
        }
    }

    fn with<T>(&mut self, operation: impl FnOnce(&Wakeup) -> T) -> T {
        let wakeup = Wakeup::new(self.counters.0, self.counters.1);
        let result = operation(&wakeup);
        self.counters = wakeup.snapshot();
        result
    }

    fn step_producer(&self, index: usize) -> Vec<Self> {
        let mut next = self.clone();
        match self.producers[index] {
            Producer::Working => {
                next.with(Wakeup::enter_commit);
                next.producers[index] = Producer::Entered;
            }
            Producer::Entered => {
                let notifies = next.with(Wakeup::must_notify);
                next.producers[index] = Producer::Decided { notifies };
            }
            Producer::Decided { notifies } => {
                let mut aborted = next.clone();
                aborted.producers[index] = Producer::Ended;
                next.producers[index] = Producer::Ended;
                next.visible_rows += 1;
                if notifies {
                    next.workers
                        .iter_mut()
                        .for_each(|(_, notified)| *notified = true);
                }
                return vec![next, aborted];
            }
            Producer::Ended => {
                next.with(Wakeup::leave_commit);
                next.producers[index] = Producer::Left;
            }
            Producer::Left => return vec![],
        }
        vec![next]
    }

    fn step_worker(&self, index: usize, protocol: Protocol) -> Vec<Self> {
        let mut next = self.clone();
        let (place, notified) = self.workers[index];
        next.workers[index].0 = match place {
            Worker::Looking if self.visible_rows > 0 => {
                next.visible_rows = 0;
                Worker::Looking
            }
            Worker::Looking => Worker::FoundNothing,
            Worker::FoundNothing => {
                next.with(Wakeup::announce_sleep);
                Worker::Announced
            }
            Worker::Announced => {
                let may_sleep =
                    next.with(Wakeup::is_quiet) || protocol == Protocol::WithoutQuietCheck;
                if protocol == Protocol::WithoutLastLook && may_sleep {
                    Worker::Asleep
                } else {
                    Worker::LastLook { may_sleep }
                }
            }
            Worker::LastLook { .. } if self.visible_rows > 0 => {
                next.visible_rows = 0;
                Worker::Woken
            }
            Worker::LastLook { may_sleep: true } => Worker::Asleep,
            Worker::LastLook { may_sleep: false } => Worker::Woken,
            Worker::Asleep if notified => {
                next.workers[index].1 = false;
                Worker::Woken
            }
            Worker::Asleep => return vec![],
            Worker::Woken => {
                next.with(Wakeup::end_sleep);
                Worker::Looking
            }
        };
        vec![next]
    }

    fn successors(&self, protocol: Protocol) -> Vec<Self> {
        let producers = (0..self.producers.len()).flat_map(|index| self.step_producer(index));
        let workers = (0..self.workers.len()).flat_map(|index| self.step_worker(index, protocol));
        producers.chain(workers).collect()
    }

    fn sleeps_over_work(&self) -> bool {
        self.visible_rows > 0
            && self
                .producers
                .iter()
                .all(|producer| *producer == Producer::Left)
            && self
                .workers
                .iter()
                .all(|worker| *worker == (Worker::Asleep, false))
    }
}

/// All reachable states; stops at the first one in which every worker sleeps over a visible row.
fn explore(producers: usize, workers: usize, protocol: Protocol) -> (usize, Option<State>) {
    let mut seen = HashSet::new();
    let mut open = vec![State::new(producers, workers)];
    while let Some(state) = open.pop() {
        if state.sleeps_over_work() {
            return (seen.len(), Some(state));
        }
        if seen.insert(state.clone()) {
            open.extend(state.successors(protocol));
        }
    }
    (seen.len(), None)
}

#[test]
fn no_interleaving_loses_a_wake_up() {
    for (producers, workers) in [(1, 1), (3, 1), (1, 2), (2, 2), (3, 2)] {
        let (states, lost) = explore(producers, workers, Protocol::Whole);
        assert_eq!(lost, None, "{producers} transactions, {workers} workers");
        assert!(states > 20, "the explorer has explored nothing");
    }
}

#[test]
fn every_rule_of_the_protocol_is_needed() {
    for protocol in [Protocol::WithoutQuietCheck, Protocol::WithoutLastLook] {
        let (_, lost) = explore(2, 1, protocol);
        assert!(lost.is_some(), "the explorer does not see the missing rule");
    }
}

#[test]
fn the_counters_return_to_zero() {
    let mut open = vec![State::new(2, 2)];
    let mut seen = HashSet::new();
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        let sleepers = state
            .workers
            .iter()
            .filter(|(place, _)| !matches!(place, Worker::Looking | Worker::FoundNothing));
        let committing = state
            .producers
            .iter()
            .filter(|producer| !matches!(producer, Producer::Working | Producer::Left));
        assert_eq!(
            state.counters,
            (sleepers.count() as u32, committing.count() as u32)
        );
        open.extend(state.successors(Protocol::Whole));
    }
}
