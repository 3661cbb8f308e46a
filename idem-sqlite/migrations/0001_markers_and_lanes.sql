-- Times are milliseconds since 1970, UTC. Text is compared by its bytes (collation BINARY, the
-- default). Comments inside of a statement stay in the database: `.schema` shows them.

create table {schema}migrations (
    -- The migrations of idem that were applied here.
    version    integer not null, -- the place in the order
    name       text    not null, -- what it is about
    checksum   integer not null, -- FNV-1a of its SQL before the prefix is put in
    applied_at integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    constraint migrations_pkey primary key (version)
) strict;

create table {schema}store (
    -- This store of markers. One row.
    one        integer not null default 1, -- always 1: it keeps the table at one row
    id         text    not null,           -- the store's identity, which commits in Kafka name
    created_at integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    constraint store_pkey primary key (one),
    constraint store_has_one_row check (one = 1)
) strict;

-- A random UUID, version 4.
insert into {schema}store (id) values (
    lower(
        hex(randomblob(4)) || '-' || hex(randomblob(2))
        || '-4' || substr(hex(randomblob(2)), 2)
        || '-' || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2)
        || '-' || hex(randomblob(6))
    )
);

create table {schema}scopes (
    -- Which consumer group owns which scope. A scope is the memory of the keys of one handler.
    scope       text    not null, -- the name of the handler, unless it was named
    group_name  text    not null, -- the Kafka consumer group that owns it
    mode        text    not null, -- how its markers are kept: rows, packed, offset
    state       text    not null default 'active', -- retired when its handler is gone for good
    recorded_at integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    constraint scopes_pkey primary key (scope),
    constraint scopes_scope_length check (length(cast(scope as blob)) between 1 and 255),
    constraint scopes_group_name_length check (length(cast(group_name as blob)) between 1 and 255),
    constraint scopes_mode_known check (mode in ('rows', 'packed', 'offset')),
    constraint scopes_state_known check (state in ('active', 'retired'))
) strict, without rowid;

create index {schema}scopes_group_name_idx on {schema}scopes (group_name);

create table {schema}lanes (
    -- One row for each partition as one consumer group reads it. Written last in the transaction of
    -- each batch, it says where the group stands; Kafka's own offset only follows it.
    lane_id        integer primary key autoincrement, -- never used again: markers name it
    group_name     text    not null, -- the Kafka consumer group
    topic          text    not null,
    partition      integer not null,
    position       integer not null, -- the next offset to process
    leader_epoch   integer,          -- of the event before the position
    token          text    not null default '00000000-0000-0000-0000-000000000000', -- the fence
    revision       integer not null default 0, -- one more with every batch
    floor          integer not null default 0, -- deliveries below it are stale
    cluster_id     text,             -- the Kafka cluster the position belongs to
    topic_id       text,             -- the topic the position belongs to
    owner_id       text,             -- the run of a process that took it last (see owners)
    owner_name     text,
    taken_at       integer,
    updated_at     integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    released_at    integer,          -- null while it is held, or when the owner died
    attempt_offset integer,          -- the event processed alone, after a process died with it
    attempt_at     integer,
    attempts_died  integer not null default 0, -- processes that died with that attempt open
    constraint lanes_place_key unique (group_name, topic, partition),
    constraint lanes_group_name_length check (length(cast(group_name as blob)) between 1 and 255),
    constraint lanes_topic_length check (length(cast(topic as blob)) between 1 and 255),
    constraint lanes_partition_not_negative check (partition >= 0),
    constraint lanes_position_not_negative check (position >= 0),
    constraint lanes_revision_not_negative check (revision >= 0),
    constraint lanes_floor_not_negative check (floor >= 0),
    constraint lanes_attempts_died_not_negative check (attempts_died >= 0)
) strict;

create table {schema}owners (
    -- Runs of processes that hold, or held, lanes.
    owner_id     text    not null, -- the number of the run: a new one at each start
    name         text    not null, -- the instance's name, or the host's with the process id
    started_at   integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    heartbeat_at integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    constraint owners_pkey primary key (owner_id)
) strict, without rowid;

create table {schema}offset_marks (
    -- For handlers with key = offset: what they have handled, instead of a marker for each event.
    lane_id     integer not null,
    scope       text    not null,
    next_offset integer not null, -- everything below it is processed
    constraint offset_marks_pkey primary key (lane_id, scope),
    constraint offset_marks_lane_fkey foreign key (lane_id)
        references {schema}lanes (lane_id) on delete cascade,
    constraint offset_marks_scope_length check (length(cast(scope as blob)) between 1 and 255),
    constraint offset_marks_next_offset_not_negative check (next_offset >= 0)
) strict, without rowid;

create table {schema}lane_slices (
    -- The positions of lanes that are worked in slices, by a hash of the message key.
    lane_id  integer not null,
    slices   integer not null, -- how many slices it is divided into
    slice    integer not null, -- which of them, from 0
    position integer not null, -- the next offset to process in this slice
    constraint lane_slices_pkey primary key (lane_id, slices, slice),
    constraint lane_slices_lane_fkey foreign key (lane_id)
        references {schema}lanes (lane_id) on delete cascade,
    constraint lane_slices_slice_in_range check (slice >= 0 and slice < slices),
    constraint lane_slices_position_not_negative check (position >= 0)
) strict, without rowid;

create table {schema}markers (
    -- One row for each (scope, key) that was processed, written in the transaction of its effects.
    -- Read the view processed_events, which names the origins.
    scope         text    not null, -- whose memory of the key it is
    event_key     text    not null, -- the key of the event
    processed_at  integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    state         integer not null default 0, -- 0 processed, 1 dead, 2 parked
    lane_id       integer, -- the lane that processed it; null when it did not come from Kafka
    source_offset integer, -- the offset of the event in that lane
    attempt       text,    -- the call that wrote it, when it did not come from Kafka
    metadata      text,    -- JSON: what the caller wanted to keep beside it
    constraint markers_pkey primary key (scope, event_key),
    constraint markers_scope_length check (length(cast(scope as blob)) between 1 and 255),
    constraint markers_event_key_length check (length(cast(event_key as blob)) between 1 and 255),
    constraint markers_state_known check (state in (0, 1, 2)),
    constraint markers_metadata_is_json check (metadata is null or json_valid(metadata))
) strict, without rowid;

create view {schema}processed_events as
-- The markers with their origins, for people.
select m.scope,
       m.event_key,
       strftime('%Y-%m-%d %H:%M:%f', m.processed_at / 1000.0, 'unixepoch') as processed_at,
       case m.state when 0 then 'processed' when 1 then 'dead' when 2 then 'parked' end as state,
       l.group_name,
       l.topic,
       l.partition,
       m.source_offset as "offset",
       m.metadata,
       m.attempt
from {schema}markers m
left join {schema}lanes l on l.lane_id = m.lane_id;
