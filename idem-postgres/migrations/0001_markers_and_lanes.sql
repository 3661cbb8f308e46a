do $$
begin
    -- Not `create schema if not exists`, which asks for the right to create one that is there.
    if to_regnamespace('{schema}') is null then
        create schema {schema};
    end if;
end
$$;

comment on schema {schema} is
    'idem: which events were processed, and where each consumer group stands in Kafka';

-- The ledger -------------------------------------------------------------------------------------

create table {schema}.migrations (
    version    bigint      not null,
    name       text        not null,
    checksum   bigint      not null,
    applied_at timestamptz not null default now(),
    constraint migrations_pkey primary key (version)
);

comment on table {schema}.migrations is 'The migrations of idem that were applied here.';
comment on column {schema}.migrations.version is 'The place in the order.';
comment on column {schema}.migrations.name is 'What it is about.';
comment on column {schema}.migrations.checksum is
    'FNV-1a of its SQL before the name of the schema is put in: tells when a file was edited.';
comment on column {schema}.migrations.applied_at is 'When it was applied.';

-- The store --------------------------------------------------------------------------------------

create table {schema}.store (
    one        boolean     not null default true,
    id         uuid        not null default gen_random_uuid(),
    created_at timestamptz not null default now(),
    constraint store_pkey primary key (one),
    constraint store_has_one_row check (one)
);

comment on table {schema}.store is 'This store of markers. One row.';
comment on column {schema}.store.one is 'Always true: it keeps the table at one row.';
comment on column {schema}.store.id is
    'The identity of this store. Commits in Kafka name it, so that a commit that belongs to another '
    'database is noticed.';
comment on column {schema}.store.created_at is 'When the schema was made.';

insert into {schema}.store default values;

-- Scopes -----------------------------------------------------------------------------------------

create table {schema}.scopes (
    scope       text collate "C" not null,
    group_name  text collate "C" not null,
    mode        text collate "C" not null,
    state       text collate "C" not null default 'active',
    recorded_at timestamptz      not null default now(),
    constraint scopes_pkey primary key (scope),
    constraint scopes_scope_length check (octet_length(scope) between 1 and 255),
    constraint scopes_group_name_length check (octet_length(group_name) between 1 and 255),
    constraint scopes_mode_known check (mode in ('rows', 'packed', 'offset')),
    constraint scopes_state_known check (state in ('active', 'retired'))
);

create index scopes_group_name_idx on {schema}.scopes (group_name);

comment on table {schema}.scopes is
    'Which consumer group owns which scope. A scope is the memory of the keys of one handler.';
comment on column {schema}.scopes.scope is 'The scope: the name of the handler, unless it was named.';
comment on column {schema}.scopes.group_name is 'The Kafka consumer group that owns it.';
comment on column {schema}.scopes.mode is
    'How its markers are kept: rows (one a key), packed (digests, a row a batch), offset (the '
    'position of the lane).';
comment on column {schema}.scopes.state is 'active, or retired when its handler is gone for good.';
comment on column {schema}.scopes.recorded_at is 'When the group first brought it.';

-- Lanes ------------------------------------------------------------------------------------------

create table {schema}.lanes (
    lane_id        bigint           not null generated always as identity,
    group_name     text collate "C" not null,
    topic          text collate "C" not null,
    partition      integer          not null,
    position       bigint           not null,
    leader_epoch   integer,
    token          uuid             not null default '00000000-0000-0000-0000-000000000000',
    revision       bigint           not null default 0,
    floor          bigint           not null default 0,
    cluster_id     text,
    topic_id       text,
    owner_id       uuid,
    owner_name     text,
    taken_at       timestamptz,
    updated_at     timestamptz      not null default now(),
    released_at    timestamptz,
    attempt_offset bigint,
    attempt_at     timestamptz,
    attempts_died  integer          not null default 0,
    constraint lanes_pkey primary key (lane_id),
    constraint lanes_place_key unique (group_name, topic, partition),
    constraint lanes_group_name_length check (octet_length(group_name) between 1 and 255),
    constraint lanes_topic_length check (octet_length(topic) between 1 and 255),
    constraint lanes_partition_not_negative check (partition >= 0),
    constraint lanes_position_not_negative check (position >= 0),
    constraint lanes_revision_not_negative check (revision >= 0),
    constraint lanes_floor_not_negative check (floor >= 0),
    constraint lanes_attempts_died_not_negative check (attempts_died >= 0)
) with (
    -- A row is updated with every batch: room for its next version on the same page, and a vacuum
    -- before the page is full of old ones.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000
);

comment on table {schema}.lanes is
    'One row for each partition as one consumer group reads it. Written last in the transaction of '
    'each batch, it says where the group stands; Kafka''s own offset only follows it.';
comment on column {schema}.lanes.lane_id is 'The number of the lane, for markers.';
comment on column {schema}.lanes.group_name is 'The Kafka consumer group.';
comment on column {schema}.lanes.topic is 'The topic.';
comment on column {schema}.lanes.partition is 'The partition.';
comment on column {schema}.lanes.position is 'The next offset to process.';
comment on column {schema}.lanes.leader_epoch is
    'The leader epoch of the event before the position: tells a log that lost its tail.';
comment on column {schema}.lanes.token is
    'The fence: a new random one for each owner. Only its holder can commit. Nil: never taken.';
comment on column {schema}.lanes.revision is
    'One more with every batch: tells its owner that the database went back to an earlier state.';
comment on column {schema}.lanes.floor is
    'Markers of offsets below it may be forgotten: an event that comes again from there is stale.';
comment on column {schema}.lanes.cluster_id is 'The Kafka cluster the position belongs to.';
comment on column {schema}.lanes.topic_id is
    'The id of the topic the position belongs to: tells a topic that was created again.';
comment on column {schema}.lanes.owner_id is 'The run of a process that took it last (see owners).';
comment on column {schema}.lanes.owner_name is 'The name of that process.';
comment on column {schema}.lanes.taken_at is 'When it was taken.';
comment on column {schema}.lanes.updated_at is 'When its position was last written.';
comment on column {schema}.lanes.released_at is
    'When its owner left it cleanly. Null while it is held, or when the owner died.';
comment on column {schema}.lanes.attempt_offset is
    'The event that is being processed alone, after a process died with it.';
comment on column {schema}.lanes.attempt_at is 'When that attempt began.';
comment on column {schema}.lanes.attempts_died is 'How many processes died with that attempt open.';

create table {schema}.owners (
    owner_id     uuid        not null,
    name         text        not null,
    started_at   timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    constraint owners_pkey primary key (owner_id)
) with (fillfactor = 50);

comment on table {schema}.owners is 'Runs of processes that hold, or held, lanes.';
comment on column {schema}.owners.owner_id is 'The number of the run: a new one at each start.';
comment on column {schema}.owners.name is 'The instance''s name, or the host''s with the process id.';
comment on column {schema}.owners.started_at is 'When it was first heard of.';
comment on column {schema}.owners.heartbeat_at is 'When it was last heard of.';

create table {schema}.offset_marks (
    lane_id     bigint           not null,
    scope       text collate "C" not null,
    next_offset bigint           not null,
    constraint offset_marks_pkey primary key (lane_id, scope),
    constraint offset_marks_lane_fkey foreign key (lane_id)
        references {schema}.lanes (lane_id) on delete cascade,
    constraint offset_marks_scope_length check (octet_length(scope) between 1 and 255),
    constraint offset_marks_next_offset_not_negative check (next_offset >= 0)
) with (fillfactor = 50);

comment on table {schema}.offset_marks is
    'For handlers with key = offset: what they have handled, instead of a marker for each event.';
comment on column {schema}.offset_marks.lane_id is 'The lane.';
comment on column {schema}.offset_marks.scope is 'The scope.';
comment on column {schema}.offset_marks.next_offset is
    'Everything below this offset is processed. It never goes down, unless the topic is another one.';

create table {schema}.lane_slices (
    lane_id  bigint  not null,
    slices   integer not null,
    slice    integer not null,
    position bigint  not null,
    constraint lane_slices_pkey primary key (lane_id, slices, slice),
    constraint lane_slices_lane_fkey foreign key (lane_id)
        references {schema}.lanes (lane_id) on delete cascade,
    constraint lane_slices_slice_in_range check (slice >= 0 and slice < slices),
    constraint lane_slices_position_not_negative check (position >= 0)
) with (fillfactor = 50);

comment on table {schema}.lane_slices is
    'The positions of lanes that are worked in slices, by a hash of the message key.';
comment on column {schema}.lane_slices.lane_id is 'The lane.';
comment on column {schema}.lane_slices.slices is 'How many slices it is divided into.';
comment on column {schema}.lane_slices.slice is 'Which of them, from 0.';
comment on column {schema}.lane_slices.position is 'The next offset to process in this slice.';

-- Markers ----------------------------------------------------------------------------------------

-- Columns of eight bytes first, and eight columns in all: no padding, and a bitmap of nulls that
-- fits into the row's header.
create table {schema}.markers (
    processed_at  timestamptz      not null default now(),
    lane_id       bigint,
    source_offset bigint,
    state         smallint         not null default 0,
    scope         text collate "C" not null,
    event_key     text collate "C" not null,
    attempt       uuid,
    metadata      jsonb,
    constraint markers_pkey primary key (scope, event_key),
    constraint markers_scope_length check (octet_length(scope) between 1 and 255),
    constraint markers_event_key_length check (octet_length(event_key) between 1 and 255),
    constraint markers_state_known check (state in (0, 1, 2))
);

comment on table {schema}.markers is
    'One row for each (scope, key) that was processed, written in the transaction of its effects. '
    'Read the view processed_events, which names the origins.';
comment on column {schema}.markers.processed_at is 'The time of the transaction.';
comment on column {schema}.markers.lane_id is
    'The lane that processed it; null when it did not come from Kafka. Deliberately no foreign key, '
    'which would cost a lookup an event.';
comment on column {schema}.markers.source_offset is 'The offset of the event in that lane.';
comment on column {schema}.markers.state is '0 processed, 1 dead, 2 parked.';
comment on column {schema}.markers.scope is 'Whose memory of the key it is.';
comment on column {schema}.markers.event_key is 'The key of the event.';
comment on column {schema}.markers.attempt is
    'The call that wrote it, when it did not come from Kafka: tells a caller whose commit was lost '
    'that the marker is its own.';
comment on column {schema}.markers.metadata is 'What the caller wanted to keep beside it.';

create view {schema}.processed_events as
select m.scope,
       m.event_key,
       m.processed_at,
       case m.state when 0 then 'processed' when 1 then 'dead' when 2 then 'parked' end as state,
       l.group_name,
       l.topic,
       l.partition,
       m.source_offset as "offset",
       m.metadata,
       m.attempt
from {schema}.markers m
left join {schema}.lanes l on l.lane_id = m.lane_id;

comment on view {schema}.processed_events is 'The markers with their origins, for people.';
comment on column {schema}.processed_events.scope is 'Whose memory of the key it is.';
comment on column {schema}.processed_events.event_key is 'The key of the event.';
comment on column {schema}.processed_events.processed_at is 'The time of the transaction.';
comment on column {schema}.processed_events.state is 'processed, dead or parked.';
comment on column {schema}.processed_events.group_name is
    'The consumer group that processed it; null when it did not come from Kafka.';
comment on column {schema}.processed_events.topic is 'The topic.';
comment on column {schema}.processed_events.partition is 'The partition.';
comment on column {schema}.processed_events."offset" is 'The offset.';
comment on column {schema}.processed_events.metadata is 'What the caller wanted to keep beside it.';
comment on column {schema}.processed_events.attempt is 'The call without Kafka that wrote it.';

-- The guard --------------------------------------------------------------------------------------

-- Unlogged, because a row never outlives its transaction: it costs no WAL, and a publication for
-- all tables does not ask it for a replica identity. No index: the row is deleted by its address.
create unlogged table {schema}.open_batches (
    batch xid8 not null
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 1000
);

comment on table {schema}.open_batches is
    'Transactions that idem has begun and not sealed. Always looks empty: a row is deleted by the '
    'transaction that inserted it.';
comment on column {schema}.open_batches.batch is 'The transaction.';

create function {schema}.refuse_unsealed() returns trigger
language plpgsql as $$
begin
    if pg_catalog.current_setting('idem.sealed', true) is distinct from new.batch::text then
        raise exception using
            errcode = 'IDEM1',
            message = 'a handler of idem ended the transaction it was lent',
            hint = 'Remove COMMIT (or SET CONSTRAINTS ALL IMMEDIATE) from the handler: idem commits '
                   'its effects together with their markers.';
    end if;
    return null;
end
$$;

comment on function {schema}.refuse_unsealed() is
    'Lets a transaction of idem commit only after idem has sealed it.';

create constraint trigger open_batches_are_sealed
    after insert on {schema}.open_batches
    deferrable initially deferred
    for each row execute function {schema}.refuse_unsealed();

comment on trigger open_batches_are_sealed on {schema}.open_batches is
    'Makes a COMMIT by a handler fail.';
