-- What the rows alone cost, without finding out which: tables like those of the memberships, with the same indexes.
create table member_copy (like actionflow._segment_member including all);
create table flip_copy (like actionflow._segment_flip including all);
create table event_copy (like actionflow._event including all);
