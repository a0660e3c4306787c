//! Long walks through large worlds, and tickets.

use proptest::collection::vec;
use proptest::prelude::*;

use super::state::{Broken, Plan, Room, State, World};
use super::step::Step;
use crate::rendezvous::{Look, Ticket};

/// One in so many steps may be that somebody goes early: otherwise nearly no request lives to be answered.
const DEPARTURES: usize = 8;

fn worlds() -> impl Strategy<Value = World> {
    let plan = (1u32..=2, vec(0usize..=40, 1..=4))
        .prop_map(|(database, lengths)| Plan { database, lengths });
    // Both databases have a receiver, so that everybody can be served.
    let receivers = vec(1u32..=2, 0..=2).prop_map(|more| [vec![1, 2], more].concat());
    (
        1usize..=16,
        1usize..=64,
        vec(plan, 1..=12),
        receivers,
        1usize..=4,
    )
        .prop_map(|(slots, blocks, callers, receivers, max_taken)| World {
            slots,
            blocks,
            callers,
            receivers,
            max_taken,
            answers: vec![0, 7, 40, 200],
            generation: 0x7fff_fffe,
        })
}

/// Takes one of the next steps, and says whether there was one.
fn go(state: &mut State, world: &World, choice: usize, goes_early: bool) -> Result<bool, Broken> {
    let mut steps = state.steps(world);
    if !goes_early {
        steps.retain(|step| !step.is_departure(state));
    }
    let Some(step) = steps.get(choice % steps.len().max(1)) else {
        return Ok(false);
    };
    state.apply(world, *step)?;
    state
        .check(world)
        .map_err(|broken| format!("{broken} after {step:?}"))?;
    Ok(true)
}

/// Everybody stays until it has been served.
fn settle(state: &mut State, world: &World) -> Result<(), Broken> {
    // Large, odd steps through the choices, so that nobody's turn stays out.
    for choice in (0..200_000).map(|turn| turn * 7919 + turn / 13) {
        let callers = state.callers.iter().zip(&world.callers);
        let mut callers = callers.map(|(caller, plan)| (caller, plan.lengths.len()));
        let is_done =
            callers.all(|(caller, all)| caller.next >= all && caller.room == Room::NotNeeded);
        if is_done && state.jobs.is_empty() {
            return Ok(());
        }
        go(state, world, choice, false)?;
    }
    Err(format!("somebody is never served: {state:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn large_worlds_keep_every_rule_and_whoever_stays_is_served(
        world in worlds(),
        choices in vec(any::<u16>(), 0..300),
    ) {
        let mut state = State::first(&world);
        for choice in choices.into_iter().map(usize::from) {
            let walked = go(&mut state, &world, choice / DEPARTURES, choice % DEPARTURES == 0);
            walked.map_err(TestCaseError::fail)?;
        }
        let settled = settle(&mut state, &world);
        settled.map_err(TestCaseError::fail)?;
    }
}

proptest! {
    #[test]
    fn a_ticket_is_the_ticket_of_its_number(slot in any::<u32>(), generation in 0u32..=0x7fff_ffff) {
        let ticket = Ticket { slot, generation };
        prop_assert!(ticket.to_number() >= 0);
        prop_assert_eq!(Ticket::from_number(ticket.to_number()), ticket);
    }

    #[test]
    fn any_number_but_a_ticket_that_was_given_out_names_nothing(number in any::<i64>(), is_near in any::<bool>()) {
        // Near: slots that exist, and generations around the only one that was given out.
        let number = if is_near { (number >> 33 << 32) % (4 << 32) + (number & 3) } else { number };
        let world = one_request();
        let mut state = State::first(&world);
        for step in [Step::Listen(0), Step::Begin(0), Step::Post(0), Step::Take(0), Step::Copied(0)] {
            state.apply(&world, step).map_err(TestCaseError::fail)?;
        }
        let given_out = state.jobs[0].ticket;
        let ticket = Ticket::from_number(number);
        if number != given_out.to_number() {
            let before = state.memory.clone();
            let mut ring = state.memory.ring();
            prop_assert_eq!(ring.look(ticket), Look::Lost);
            prop_assert_eq!(ring.begin_answer(ticket, 1, 0), Ok(None));
            prop_assert_eq!(ring.answered(ticket), None);
            prop_assert!(!ring.release(ticket));
            prop_assert_eq!(state.memory, before);
        }
    }
}

fn one_request() -> World {
    World {
        slots: 2,
        blocks: 2,
        callers: vec![Plan {
            database: 1,
            lengths: vec![1],
        }],
        receivers: vec![1],
        max_taken: 1,
        answers: Vec::new(),
        generation: 0,
    }
}
