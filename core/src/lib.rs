//! The meaning of actionflow, without Postgres, network, clock or randomness.
//!
//! The extension runs inside database backends and the worker beside the database; whatever both must agree on, and whatever
//! is worth testing without either, is here.
//!
//! # Nouns
//! - A *definition* is what a flow does: variables and actions ([`flow`]).
//! - A *trigger payload* says for whom a flow starts, and with what ([`payload`]).
//! - An *audience* is whom a bulk job starts a flow for ([`audience`]).
//! - A *rule* says who is in a segment; a *truth* is whether it holds, and until when at least ([`segment`]).
//! - A *message* is the JSON that an endpoint receives; it is rendered around the customer, who is read later ([`message`]).
//! - *Endpoint options* say where and how requests are made ([`endpoint`]).
//! - A *signature* proves to a receiver where a message comes from: ours are made, those of webhooks' senders judged
//!   ([`mod@signature`]).
//! - An *answer* is what an endpoint decides about a question, a *reply* what the caller who asked is told ([`enrich`]).
//! - A *token* is JSON with a signature over it, as endpoints may answer and may be sent ([`jose`]).
//! - An *outcome* is what an attempt means for its delivery ([`outcome`]); the *schedule* says when the next one is made
//!   ([`retry`]).
//! - An address is *refused* when no request may reach it ([`address`]).
//! - A *webhook* is a request from outside that starts a flow; a *refusal* is why it does not ([`webhook`]). A *mapping* makes a trigger
//!   payload of its body ([`mapping`]).
//! - A *ring* is history in a fixed number of partitions ([`retention`]).
//! - A *wake-up* is what a commit owes to a worker that sleeps ([`wakeup`]).
//!
//! # Who calls whom
//! The extension parses definitions, payloads and options, renders messages, picks partitions, and moves the wake-up counters
//! that it keeps in shared memory. The worker signs, judges addresses, classifies answers and computes delays. JSON from people
//! goes through [`input`], which knows every key and names the place of every mistake.
//!
//! # What it never does
//! It opens nothing, waits for nothing and reads no clock: times and random numbers are arguments (all but those that a token's
//! signature takes). It has no `unsafe` code and does not panic on any input. Its errors never repeat a secret, and it does not
//! choose SQLSTATEs or HTTP statuses for them: that is the callers' part.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod audience;
pub mod endpoint;
pub mod enrich;
pub mod flow;
pub mod input;
pub mod jose;
pub mod json_size;
pub mod mapping;
pub mod message;
pub mod outcome;
pub mod payload;
pub mod rendezvous;
pub mod retention;
pub mod retry;
pub mod row_options;
pub mod segment;
pub mod signature;
pub mod wakeup;
pub mod webhook;
