//! `#[pg_test]`s by area.
