//! All states of small worlds.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::state::{Broken, Plan, State, World};
use super::step::Step;

/// Visits every state that can be reached, the nearest first, and returns how many there are.
///
/// # Panics
/// When one is broken; the message tells the shortest way there.
fn explore(world: &World) -> usize {
    let first = State::first(world);
    let mut seen = HashSet::from([hash(&first)]);
    // For each state the place of the one before it, and what happened there.
    let mut history: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut waiting = VecDeque::from([(0, first)]);
    while let Some((place, state)) = waiting.pop_front() {
        for step in state.steps(world) {
            let mut next = state.clone();
            match go(&mut next, world, step, &mut seen) {
                Ok(true) => {
                    waiting.push_back((history.len(), next));
                    history.push((place, Some(step)));
                }
                Ok(false) => {}
                Err(broken) => {
                    let way = way(&history, place, step);
                    panic!("{broken}\nafter {way:?}\nin {next:?}\nof {world:?}");
                }
            }
        }
    }
    seen.len()
}

/// Takes a step, and says whether it leads to a new state.
fn go(
    state: &mut State,
    world: &World,
    step: Step,
    seen: &mut HashSet<u64>,
) -> Result<bool, Broken> {
    let attempt = AssertUnwindSafe(|| {
        state.apply(world, step)?;
        let is_new = seen.insert(hash(state));
        if is_new {
            state.check(world)?;
        }
        Ok(is_new)
    });
    // The way to a panic of the ring is worth knowing too.
    catch_unwind(attempt).unwrap_or_else(|_| Err("the ring has panicked".to_owned()))
}

fn way(history: &[(usize, Option<Step>)], mut place: usize, last: Step) -> Vec<Step> {
    let mut steps = vec![last];
    while let (before, Some(step)) = history[place] {
        steps.push(step);
        place = before;
    }
    steps.reverse();
    steps
}

/// Among a million states, two have the same hash once in 30 million runs.
fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

fn plan(database: u32, lengths: &[usize]) -> Plan {
    Plan {
        database,
        lengths: lengths.to_vec(),
    }
}

/// One caller per plan, one receiver per database; two bytes are a block.
fn world(slots: usize, blocks: usize, callers: &[Plan], receivers: &[u32]) -> World {
    World {
        slots,
        blocks,
        callers: callers.to_vec(),
        receivers: receivers.to_vec(),
        max_taken: 2,
        answers: vec![2],
        generation: 0,
    }
}

/// So that a model in which nothing happens is noticed.
fn visits(at_least: usize, world: &World) {
    let states = explore(world);
    assert!(states >= at_least, "only {states} states of {world:?}");
}

#[test]
fn three_callers_share_one_slot_and_two_receivers() {
    let callers = [plan(1, &[2]), plan(1, &[1]), plan(1, &[0])];
    visits(30_000, &world(1, 1, &callers, &[1, 1]));
}

#[test]
fn answers_of_every_length_share_two_blocks_while_the_generation_starts_anew() {
    let callers = [plan(1, &[1, 4]), plan(1, &[3, 2])];
    let world = World {
        answers: vec![0, 4, 6],
        generation: 0x7fff_fffe,
        ..world(1, 2, &callers, &[1, 1])
    };
    visits(45_000, &world);
}

#[test]
fn long_and_short_requests_share_three_blocks() {
    let callers = [plan(1, &[2, 3]), plan(1, &[4, 1])];
    let world = World {
        answers: vec![1, 4, 5],
        ..world(2, 3, &callers, &[1])
    };
    visits(35_000, &world);
}

#[test]
fn two_receivers_share_the_requests_of_two_callers() {
    let callers = [plan(1, &[2]), plan(1, &[2])];
    visits(28_000, &world(2, 2, &callers, &[1, 1]));
}

#[test]
fn three_callers_share_two_slots_and_one_receiver() {
    let callers = [plan(1, &[2]), plan(1, &[2]), plan(1, &[2])];
    visits(14_000, &world(2, 2, &callers, &[1]));
    let one_by_one = World {
        max_taken: 1,
        ..world(2, 2, &callers, &[1])
    };
    visits(13_000, &one_by_one);
}

#[test]
fn two_databases_share_the_slots_and_blocks_but_no_requests() {
    let callers = [plan(1, &[2]), plan(2, &[2])];
    let world = World {
        answers: vec![2, 4],
        ..world(2, 3, &callers, &[1, 2])
    };
    visits(39_000, &world);
}

/// All states of three receivers would be half a million: this is the one way that needs so many.
#[test]
fn whoever_goes_hands_over_what_lies_behind_a_request_of_another_database() {
    let callers = [plan(2, &[2]), plan(1, &[2])];
    let world = world(2, 2, &callers, &[2, 1, 1]);
    for goes in [Step::Unlisten(1), Step::StopWaiting(1)] {
        let mut state = State::first(&world);
        let listen = (0..3).map(Step::Listen);
        let sleep = (1..3).map(Step::Take);
        let post = (0..2).flat_map(|caller| [Step::Begin(caller), Step::Post(caller)]);
        for step in listen.chain(sleep).chain(post).chain([goes]) {
            state.apply(&world, step).expect("allowed");
            state.check(&world).expect("in order");
        }
    }
}
