-- What is kept of failures: dead letters, what waits behind them, attempts, and slices' revisions.
--
-- The tables of migration 1 are locked for the moment this takes. The index on the markers reads
-- them once; whoever writes markers waits for that.

-- Owners that died -------------------------------------------------------------------------------

alter table {schema}.lanes rename column attempts_died to deaths;
alter table {schema}.lanes
    rename constraint lanes_attempts_died_not_negative to lanes_deaths_not_negative;
alter table {schema}.lanes drop column attempt_offset, drop column attempt_at;

comment on column {schema}.lanes.deaths is
    'How many owners in a row died while they held the lane, without progress in between.';

create table {schema}.attempts (
    lane_id         bigint           not null,
    source_offset   bigint           not null,
    first_failed_at timestamptz      not null,
    failures        integer          not null,
    deaths          integer          not null,
    is_open         boolean          not null,
    scope           text collate "C" not null,
    constraint attempts_pkey primary key (lane_id, scope, source_offset),
    constraint attempts_lane_fkey foreign key (lane_id)
        references {schema}.lanes (lane_id) on delete cascade,
    constraint attempts_scope_length check (octet_length(scope) <= 255),
    constraint attempts_failures_not_negative check (failures >= 0),
    constraint attempts_deaths_not_negative check (deaths >= 0)
) with (fillfactor = 50);

comment on table {schema}.attempts is
    'Attempts at events that failed, or that a process died of, and that are not done yet.';
comment on column {schema}.attempts.lane_id is 'The lane.';
comment on column {schema}.attempts.source_offset is 'The offset of the event in that lane.';
comment on column {schema}.attempts.first_failed_at is
    'When the first attempt failed, by the clock of the process.';
comment on column {schema}.attempts.failures is 'How many attempts failed.';
comment on column {schema}.attempts.deaths is 'How many processes died with an attempt open.';
comment on column {schema}.attempts.is_open is
    'Whether an attempt has begun, with this event alone in its process, and its end is not known.';
comment on column {schema}.attempts.scope is
    'The scope of the handler; empty for the event as a whole.';

-- Dead letters -----------------------------------------------------------------------------------

create table {schema}.dead_letters (
    dead_letter_id  bigint           not null generated always as identity,
    lane_id         bigint           not null,
    source_offset   bigint           not null,
    digest          bigint           not null,
    event_timestamp bigint,
    first_failed_at timestamptz,
    written_at      timestamptz      not null default now(),
    settled_at      timestamptz,
    forwarded_at    timestamptz,
    partition       integer          not null,
    leader_epoch    integer,
    attempts        integer          not null default 0,
    is_permanent    boolean,
    is_edited       boolean          not null default false,
    state           text collate "C" not null,
    failure_class   text collate "C",
    scope           text collate "C" not null,
    event_key       text collate "C",
    group_name      text collate "C" not null,
    topic           text collate "C" not null,
    topic_id        text collate "C",
    fingerprint     text collate "C",
    error           text,
    message_key     bytea,
    payload         bytea,
    edited_payload  bytea,
    header_names    text[],
    header_values   bytea[],
    constraint dead_letters_pkey primary key (dead_letter_id),
    constraint dead_letters_state_known
        check (state in ('dead', 'parked', 'waiting', 'replayed', 'dropped')),
    constraint dead_letters_scope_length check (octet_length(scope) between 1 and 255),
    constraint dead_letters_event_key_length check (octet_length(event_key) between 1 and 255),
    constraint dead_letters_attempts_not_negative check (attempts >= 0),
    constraint dead_letters_headers_are_pairs
        check (cardinality(header_names) is not distinct from cardinality(header_values)),
    constraint dead_letters_parked_by_message_key
        check (state not in ('parked', 'waiting') or message_key is not null)
);

-- An event is one letter, also when it has no key. The digest tells apart the events of two logs
-- that had the same place, when the broker does not tell the topic's id.
create unique index dead_letters_event_idx on {schema}.dead_letters
    (scope, topic, coalesce(topic_id, ''), partition, source_offset, digest);
create index dead_letters_event_key_idx on {schema}.dead_letters (scope, event_key)
    where event_key is not null;
create index dead_letters_unforwarded_idx on {schema}.dead_letters (lane_id, dead_letter_id)
    where state in ('dead', 'parked') and forwarded_at is null;
-- Not the message key itself, which may be longer than what fits into an index.
create index dead_letters_waiting_idx on {schema}.dead_letters
    (lane_id, scope, sha256(message_key), source_offset)
    where state = 'waiting';

comment on table {schema}.dead_letters is
    'Events that were given up on, with their origin, error and attempts, and events that wait '
    'behind one of the same message key. Settle them with idem, which knows what else belongs to '
    'it; reading is free.';
comment on column {schema}.dead_letters.dead_letter_id is 'The number of the letter.';
comment on column {schema}.dead_letters.lane_id is
    'The lane that gave it up. Deliberately no foreign key: a letter outlives its lane.';
comment on column {schema}.dead_letters.source_offset is 'The offset of the event in that lane.';
comment on column {schema}.dead_letters.digest is 'FNV-1a of the message key and the payload.';
comment on column {schema}.dead_letters.event_timestamp is
    'The event''s own timestamp, in milliseconds since 1970.';
comment on column {schema}.dead_letters.first_failed_at is
    'When the first attempt failed, by the clock of the process.';
comment on column {schema}.dead_letters.written_at is 'When it was written.';
comment on column {schema}.dead_letters.settled_at is 'When it was replayed or dropped.';
comment on column {schema}.dead_letters.forwarded_at is
    'When it was forwarded to a topic for dead letters.';
comment on column {schema}.dead_letters.partition is 'The partition.';
comment on column {schema}.dead_letters.leader_epoch is
    'The epoch of the leader that wrote the event.';
comment on column {schema}.dead_letters.attempts is 'How many attempts there were.';
comment on column {schema}.dead_letters.is_permanent is
    'Whether trying again was of no use, as opposed to attempts that were used up. Null for one '
    'that waits.';
comment on column {schema}.dead_letters.is_edited is
    'Whether edited_payload, and not payload, is what a replay works on.';
comment on column {schema}.dead_letters.state is
    'dead (given up on), parked (given up on, and later events of its message key wait), waiting '
    '(behind a parked one, not tried yet), replayed (worked after all), dropped.';
comment on column {schema}.dead_letters.failure_class is
    'What kind of failure it was: handler, panic, timeout, transaction, connection, crash, decode, '
    'key, correction. Null for one that waits.';
comment on column {schema}.dead_letters.scope is 'Whose event it is.';
comment on column {schema}.dead_letters.event_key is
    'The key of the event; null when it has none, or could not be decoded.';
comment on column {schema}.dead_letters.group_name is 'The consumer group that gave it up.';
comment on column {schema}.dead_letters.topic is 'The topic.';
comment on column {schema}.dead_letters.topic_id is 'The id of the topic, if the broker told it.';
comment on column {schema}.dead_letters.fingerprint is
    'The same for failures that look the same, for grouping.';
comment on column {schema}.dead_letters.error is 'The error and its sources in one line.';
comment on column {schema}.dead_letters.message_key is 'The event''s message key.';
comment on column {schema}.dead_letters.payload is
    'The event''s payload as it came; null is a tombstone.';
comment on column {schema}.dead_letters.edited_payload is
    'What a person put in place of the payload; null is a tombstone if is_edited.';
comment on column {schema}.dead_letters.header_names is
    'The names of the event''s headers, in order; null when there are none.';
comment on column {schema}.dead_letters.header_values is 'Their values, in the same order.';

create table {schema}.dead_letter_notes (
    note_id        bigint           not null generated always as identity,
    dead_letter_id bigint           not null,
    at             timestamptz      not null default clock_timestamp(),
    action         text collate "C" not null,
    by_whom        text             not null,
    note           text,
    constraint dead_letter_notes_pkey primary key (note_id),
    constraint dead_letter_notes_dead_letter_fkey foreign key (dead_letter_id)
        references {schema}.dead_letters (dead_letter_id) on delete cascade
);

create index dead_letter_notes_dead_letter_id_idx
    on {schema}.dead_letter_notes (dead_letter_id, note_id);

comment on table {schema}.dead_letter_notes is 'What was done with dead letters, by whom and why.';
comment on column {schema}.dead_letter_notes.note_id is 'The number of the note.';
comment on column {schema}.dead_letter_notes.dead_letter_id is 'The letter.';
comment on column {schema}.dead_letter_notes.at is 'When.';
comment on column {schema}.dead_letter_notes.action is
    'What: replayed, superseded (replayed, and its key had been processed by another event), '
    'replay_failed, dropped, edited.';
comment on column {schema}.dead_letter_notes.by_whom is 'Who, in words of the caller.';
comment on column {schema}.dead_letter_notes.note is 'Why, or with what result.';

-- Parked keys ------------------------------------------------------------------------------------

create table {schema}.parked_keys (
    lane_id     bigint           not null,
    parked_at   timestamptz      not null default now(),
    waiting     integer          not null default 0,
    is_released boolean          not null default false,
    scope       text collate "C" not null,
    message_key bytea            not null,
    -- The message key itself may be longer than what fits into an index.
    key_digest  bytea            not null generated always as (sha256(message_key)) stored,
    constraint parked_keys_pkey primary key (lane_id, scope, key_digest),
    constraint parked_keys_scope_length check (octet_length(scope) between 1 and 255),
    constraint parked_keys_waiting_not_negative check (waiting >= 0)
) with (fillfactor = 50);

comment on table {schema}.parked_keys is
    'Message keys behind whose dead letter later events wait. Locked by whoever parks behind one, '
    'works what waited, or settles the letter.';
comment on column {schema}.parked_keys.lane_id is 'The lane.';
comment on column {schema}.parked_keys.parked_at is 'When it was first parked.';
comment on column {schema}.parked_keys.waiting is 'How many events wait.';
comment on column {schema}.parked_keys.is_released is
    'Whether what waits is worked now; what arrives meanwhile still goes to the end of the line.';
comment on column {schema}.parked_keys.scope is 'Whose events they are.';
comment on column {schema}.parked_keys.message_key is 'The message key.';
comment on column {schema}.parked_keys.key_digest is 'SHA-256 of the message key.';

-- Slices -----------------------------------------------------------------------------------------

-- Not for looking it up. A column of a unique index is a key to the server: a slice that is sealed
-- locks the token (`for key share`) against whoever takes the lane, and not against the lane's
-- position, which follows the slices while they work.
alter table {schema}.lanes add constraint lanes_token_key unique (lane_id, token);

alter table {schema}.lane_slices
    add column revision     bigint not null default 0,
    add column leader_epoch integer,
    add constraint lane_slices_revision_not_negative check (revision >= 0);

comment on column {schema}.lane_slices.revision is
    'One more with every batch of the slice: tells its owner that the database went back.';
comment on column {schema}.lane_slices.leader_epoch is
    'The leader epoch of the event before the position.';

-- Markers ----------------------------------------------------------------------------------------

-- Empty as long as nothing was given up on, which makes it free to ask.
create index markers_given_up_idx on {schema}.markers (scope, event_key) where state <> 0;
