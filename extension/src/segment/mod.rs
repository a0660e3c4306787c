//! Segments inside Postgres: rules bound to a table's types, evaluated here and written as SQL.
//!
//! `bind` turns a rule into conditions that know their column's type (`condition`); `sql` writes the same conditions as a
//! predicate, for whole tables; `matcher` finds the segments that a changed row can matter to. `cache` holds the segments of
//! the backend's database, `facts` reads customers' events, `state` decides who enters and exits, and `crossings` writes
//! that down.

mod attribute;
pub(crate) mod bind;
pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod condition;
pub(crate) mod crossings;
mod due;
pub(crate) mod facts;
pub(crate) mod matcher;
pub(crate) mod nested;
mod prepared;
pub(crate) mod rows;
pub(crate) mod sql;
pub(crate) mod state;
pub(crate) mod statement;
pub(crate) mod test;
