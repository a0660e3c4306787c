//! Enrich: what an endpoint answers to a question ([`answer`]), and what the worker tells the caller who waits ([`reply`]).

pub mod answer;
pub mod reply;
