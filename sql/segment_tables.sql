-- Segments, their members, the moments at which memberships may change by the clock, and the events that they count.

create table actionflow._segment (
    id bigint generated always as identity primary key,
    name text not null constraint segment_name_is_unique unique,
    relation regclass not null,
    -- As it was given.
    rule jsonb not null,
    -- With the segments that it names spelt out, and its values in the one form that every session reads alike.
    checked jsonb not null,
    -- The columns that it reads, with their types: a change of them would change what the rule means.
    columns jsonb not null,
    -- Tells a backend that has the segment in memory whether it still is the same.
    revision bigint not null,
    created_at timestamptz not null default pg_catalog.now(),
    updated_at timestamptz not null default pg_catalog.now()
);

create sequence actionflow._segment_revision_seq;

-- Written by every crossing, so without foreign keys and checks; the rows of a deleted segment go in the background.
create table actionflow._segment_member (
    segment_id bigint not null,
    -- By bytes, because no order is asked of ids and comparing is most of what an index costs.
    user_id text collate "C" not null,
    entered_at timestamptz not null,
    primary key (segment_id, user_id)
);

create index _segment_member_user_idx on actionflow._segment_member (user_id);

-- When to look at a membership again because the clock may change it: never later than it does.
create table actionflow._segment_flip (
    segment_id bigint not null,
    user_id text collate "C" not null,
    check_at timestamptz not null,
    primary key (segment_id, user_id)
);

create index _segment_flip_due_idx on actionflow._segment_flip (check_at);

-- Events that some segment counts, for as long as one does: the history of all events may be kept for a shorter time.
create table actionflow._segment_event (
    user_id text collate "C" not null,
    name text collate "C" not null,
    occurred_at timestamptz not null,
    event_id bigint not null,
    properties jsonb not null,
    primary key (user_id, name, occurred_at, event_id)
);

create index _segment_event_name_idx on actionflow._segment_event (name, occurred_at);

create table actionflow._segment_event_use (
    segment_id bigint not null,
    name text not null,
    -- NULL: all of them, however old.
    window_us bigint
);

-- Customers whom somebody changed while a segment was being built; empty at all other times.
create table actionflow._segment_touched (
    user_id text not null
);

-- Who enters and exits by a new rule, until it is in force; empty at all other times.
create table actionflow._segment_difference (
    segment_id bigint not null,
    user_id text not null,
    is_exit boolean not null
);

-- Deleted segments whose members are still to be removed.
create table actionflow._segment_gone (
    segment_id bigint primary key,
    gone_at timestamptz not null
);
