//! What can happen next.

use super::state::{Broken, Room, Stage, State, Taker, World};

/// One step under the lock, by a caller, by a receiver, or by whoever answers the request of a slot.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Begin(usize),
    Post(usize),
    /// The caller finds nothing and sleeps.
    Sleep(usize),
    /// The caller has its answer, or gives up.
    Leave(usize),
    Listen(usize),
    Take(usize),
    Copied(usize),
    StopWaiting(usize),
    Retire(usize),
    Unlisten(usize),
    BeginAnswer(u32, usize),
    Answered(u32),
}

impl Step {
    /// Whether somebody goes before having what it came for.
    pub(super) fn is_departure(self, state: &State) -> bool {
        match self {
            Self::Retire(_) | Self::Unlisten(_) => true,
            Self::Leave(caller) => state
                .job_of(caller)
                .is_none_or(|job| !matches!(state.jobs[job].stage, Stage::Answered | Stage::Lost)),
            _ => false,
        }
    }
}

impl State {
    /// Everything that can happen next.
    pub(super) fn steps(&self, world: &World) -> Vec<Step> {
        let mut steps = Vec::new();
        for (place, caller) in self.callers.iter().enumerate() {
            let job = self.job_of(place).map(|job| &self.jobs[job]);
            match (job, caller.room) {
                (Some(job), _) => {
                    steps.push(Step::Leave(place));
                    match job.stage {
                        Stage::Filling => steps.push(Step::Post(place)),
                        Stage::Answered | Stage::Lost => {}
                        _ if job.will_look => steps.push(Step::Sleep(place)),
                        _ => {}
                    }
                }
                (None, Room::Asleep) => steps.push(Step::Leave(place)),
                (None, Room::Woken) => steps.extend([Step::Leave(place), Step::Begin(place)]),
                (None, Room::NotNeeded) if caller.next < world.callers[place].lengths.len() => {
                    steps.push(Step::Begin(place));
                }
                (None, Room::NotNeeded) => {}
            }
        }
        for (place, taker) in self.takers.iter().enumerate() {
            match taker {
                Taker::Gone => steps.push(Step::Listen(place)),
                Taker::Idle => steps.extend([
                    Step::Take(place),
                    Step::Retire(place),
                    Step::Unlisten(place),
                ]),
                Taker::Retired => steps.extend([Step::Take(place), Step::Unlisten(place)]),
                Taker::Awake | Taker::Asleep => steps.extend([
                    Step::Take(place),
                    Step::StopWaiting(place),
                    Step::Unlisten(place),
                ]),
                Taker::Reading(_) => steps.extend([Step::Copied(place), Step::Unlisten(place)]),
            }
        }
        for job in &self.jobs {
            let slot = job.ticket.slot;
            match job.stage {
                Stage::Taken(_) => {
                    let answers = world.answers.iter();
                    steps.extend(answers.map(|length| Step::BeginAnswer(slot, *length)));
                }
                Stage::Answering => steps.push(Step::Answered(slot)),
                _ => {}
            }
        }
        steps
    }

    /// Lets something happen.
    ///
    /// # Errors
    /// When the ring says or does something that it must not.
    pub(super) fn apply(&mut self, world: &World, step: Step) -> Result<(), Broken> {
        match step {
            Step::Begin(caller) => self.begin(world, caller),
            Step::Post(caller) => self.post(world, caller),
            Step::Sleep(caller) => {
                let job = self.job_of(caller).ok_or("nothing to wait for")?;
                self.jobs[job].will_look = false;
                Ok(())
            }
            Step::Leave(caller) => self.leave(caller),
            Step::Listen(receiver) => self.listen(world, receiver),
            Step::Take(receiver) => self.take(world, receiver),
            Step::Copied(receiver) => self.copied(receiver),
            Step::StopWaiting(receiver) => {
                let listener = self.listener(receiver)?;
                let woken = self.memory.ring().stop_waiting(listener);
                self.takers[receiver] = Taker::Idle;
                self.wake_receivers(world, woken, world.receivers[receiver])
            }
            Step::Retire(receiver) => self.retire(world, receiver),
            Step::Unlisten(receiver) => self.unlisten(world, receiver),
            Step::BeginAnswer(slot, length) => self.begin_answer(world, slot, length),
            Step::Answered(slot) => self.answered(slot),
        }
    }
}
