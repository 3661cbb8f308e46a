-- What is kept of failures: dead letters, what waits behind them, and attempts. Times are
-- milliseconds since 1970, UTC, by the clock of the database, but for first_failed_at.

-- Attempts have a table of their own now. What is renamed says how many owners in a row died holding
-- the lane, without progress in between; its constraint keeps the name it was made with, and so does
-- the comment that `.schema` shows.
alter table {schema}lanes drop column attempt_offset;
alter table {schema}lanes drop column attempt_at;
alter table {schema}lanes rename column attempts_died to deaths;

-- Nothing was ever written there: no release before this one divided a lane.
drop table {schema}lane_slices;

create table {schema}lane_slices (
    -- The positions of lanes that are worked in slices, by a hash of the message key.
    lane_id      integer not null,
    slices       integer not null, -- how many slices it is divided into
    slice        integer not null, -- which of them, from 0
    position     integer not null, -- the next offset to process in this slice
    leader_epoch integer,          -- of the event before the position
    revision     integer not null default 0, -- one more with every batch of this slice
    constraint lane_slices_pkey primary key (lane_id, slices, slice),
    constraint lane_slices_lane_fkey foreign key (lane_id)
        references {schema}lanes (lane_id) on delete cascade,
    constraint lane_slices_slice_in_range check (slice >= 0 and slice < slices),
    constraint lane_slices_position_not_negative check (position >= 0),
    constraint lane_slices_revision_not_negative check (revision >= 0)
) strict, without rowid;

create table {schema}attempts (
    -- What is known of the attempts at events that are not done.
    lane_id         integer not null,
    scope           text    not null, -- of which handler; empty for the event as a whole
    source_offset   integer not null, -- the event
    failures        integer not null, -- how many attempts failed
    first_failed_at integer not null, -- when the first of them did, by the clock of the process
    is_open         integer not null, -- 1 while one goes on, with the event alone in its process
    deaths          integer not null, -- how many owners died with such an attempt open
    constraint attempts_pkey primary key (lane_id, scope, source_offset),
    constraint attempts_lane_fkey foreign key (lane_id)
        references {schema}lanes (lane_id) on delete cascade,
    constraint attempts_scope_length check (length(cast(scope as blob)) <= 255),
    constraint attempts_failures_not_negative check (failures >= 0),
    constraint attempts_is_open_known check (is_open in (0, 1)),
    constraint attempts_deaths_not_negative check (deaths >= 0)
) strict, without rowid;

create table {schema}dead_letters (
    -- Events that were given up on, and events that wait behind one of the same message key. The
    -- long columns are the last ones, so that a look at the others does not read them.
    dead_letter_id  integer primary key autoincrement, -- never used again: notes and people name it
    scope           text    not null, -- whose event it is
    event_key       text,             -- the key of the event; null when it has none
    state           text    not null, -- dead, parked, waiting (behind a parked one), replayed, dropped
    lane_id         integer not null, -- the lane that gave it up; it may be gone
    group_name      text    not null, -- the Kafka consumer group that gave it up
    topic           text    not null,
    topic_id        text,             -- of which topic of that name, if the broker told
    partition       integer not null,
    source_offset   integer not null,
    digest          integer not null, -- tells apart events at one place of two logs
    event_timestamp integer,          -- the timestamp that Kafka has
    leader_epoch    integer,
    failure_class   text,             -- what kind of failure it was; null for one that waits
    is_permanent    integer,          -- 1 when trying again was of no use
    attempts        integer not null default 0, -- how many there were
    first_failed_at integer,          -- when the first of them failed, by the clock of the process
    fingerprint     text,             -- the same for failures that look the same
    written_at      integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    settled_at      integer,          -- when it was replayed or dropped
    forwarded_at    integer,          -- when it was sent on to Kafka
    is_edited       integer not null default 0, -- 1 when edited_payload stands for the payload
    error           text,             -- the error and its sources
    message_key     blob,             -- what chose the partition
    headers         text,             -- JSON: [[name, value in hex or null], …], in their order
    payload         blob,             -- as it came; null is a tombstone
    edited_payload  blob,             -- what a person put in its place
    constraint dead_letters_scope_length check (length(cast(scope as blob)) between 1 and 255),
    constraint dead_letters_event_key_length
        check (length(cast(event_key as blob)) between 1 and 255),
    constraint dead_letters_state_known
        check (state in ('dead', 'parked', 'waiting', 'replayed', 'dropped')),
    constraint dead_letters_waits_by_message_key
        check (state not in ('parked', 'waiting') or message_key is not null),
    constraint dead_letters_partition_not_negative check (partition >= 0),
    constraint dead_letters_is_permanent_known check (is_permanent in (0, 1)),
    constraint dead_letters_attempts_not_negative check (attempts >= 0),
    constraint dead_letters_is_edited_known check (is_edited in (0, 1)),
    constraint dead_letters_headers_is_json check (headers is null or json_valid(headers))
) strict;

-- An event is given up on once, however often it is delivered.
create unique index {schema}dead_letters_origin_idx on {schema}dead_letters
    (scope, topic, coalesce(topic_id, ''), partition, source_offset, digest);

create index {schema}dead_letters_event_key_idx on {schema}dead_letters (scope, event_key)
    where event_key is not null;

create index {schema}dead_letters_unforwarded_idx on {schema}dead_letters (lane_id, dead_letter_id)
    where state in ('dead', 'parked') and forwarded_at is null;

create index {schema}dead_letters_waiting_idx on {schema}dead_letters
    (lane_id, scope, message_key, source_offset)
    where state = 'waiting';

create table {schema}dead_letter_notes (
    -- What people did with dead letters.
    note_id        integer primary key autoincrement, -- the order in which it was done
    dead_letter_id integer not null,
    at             integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    action         text    not null, -- replayed, superseded, replay_failed, dropped, edited
    by_whom        text    not null,
    note           text,             -- why, or with what result
    constraint dead_letter_notes_letter_fkey foreign key (dead_letter_id)
        references {schema}dead_letters (dead_letter_id) on delete cascade
) strict;

create index {schema}dead_letter_notes_letter_idx on {schema}dead_letter_notes
    (dead_letter_id, note_id);

create table {schema}parked_keys (
    -- Message keys behind which later events wait, in their order.
    lane_id     integer not null,
    scope       text    not null,
    message_key blob    not null,
    waiting     integer not null default 0, -- how many events wait
    is_released integer not null default 0, -- 1 when those are to be worked
    parked_at   integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    constraint parked_keys_pkey primary key (lane_id, scope, message_key),
    constraint parked_keys_lane_fkey foreign key (lane_id)
        references {schema}lanes (lane_id) on delete cascade,
    constraint parked_keys_scope_length check (length(cast(scope as blob)) between 1 and 255),
    constraint parked_keys_waiting_not_negative check (waiting >= 0),
    constraint parked_keys_is_released_known check (is_released in (0, 1))
) strict, without rowid;

-- The few markers of events that were given up on.
create index {schema}markers_given_up_idx on {schema}markers (scope, event_key) where state <> 0;
