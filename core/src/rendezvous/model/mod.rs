//! Explores what callers, receivers and answerers can do with a ring, in every order or at random, with the real steps.
//!
//! [`state`] is what the memory and everybody who uses it look like at one moment, [`step`] what can happen next and what the ring
//! has to say to it, [`check`] what is true at every moment. [`every_order`] visits all states of small worlds, [`at_random`]
//! takes long walks through large ones.
//!
//! Copying is not a step. Whoever is handed blocks writes all of them at once, blocks that nobody owns are overwritten at once,
//! and what somebody may read is compared at every moment in which it may be read. So whatever a copy that takes its time
//! could destroy or find destroyed is found, and the states between need not be visited.
//! Sleeping is one bit: a latch that is set and a sleeper that has been woken do the same next, namely look.

mod act;
mod at_random;
mod check;
mod every_order;
mod state;
mod step;
