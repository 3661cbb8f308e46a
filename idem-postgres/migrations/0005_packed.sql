-- Packed markers: rows of digests, written by lanes that know by themselves which keys are new.
--
-- The tables of migration 1 are locked for the moment this takes.

-- What is known beside them ----------------------------------------------------------------------

-- Volatile, so that it is made for the row that is there. A UUID has six bits that are not random.
alter table {schema}.store add column digest_key bytea not null default substring(
    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) from 1 for 16
);
alter table {schema}.store
    add constraint store_digest_key_length check (octet_length(digest_key) = 16);

comment on column {schema}.store.digest_key is
    'What the digests of packed markers are made with, so that nobody can make two keys with one '
    'digest. Another one would make every packed key new.';

alter table {schema}.scopes add column switched_at timestamptz;

comment on column {schema}.scopes.switched_at is
    'When it began to keep its markers in another form than before; null if it never did.';

alter table {schema}.lanes add column log integer not null default 0;
alter table {schema}.lanes add constraint lanes_log_not_negative check (log >= 0);

comment on column {schema}.lanes.log is
    'The number of the log that the position belongs to: one more each time the topic was made anew.';

-- Packs ------------------------------------------------------------------------------------------

-- Written with each batch, and deleted some time after by whoever merges the small ones: a vacuum
-- before there is much to do. The digests are random: nothing is gained by compressing them.
--
-- The number alone tells a row. The lane and the scope are in the key because a window is read by
-- them, page by page; with an index on the number alone the server would read all lanes' rows for that.
create table {schema}.packs (
    pack_id      bigint           not null generated always as identity,
    lane_id      bigint           not null,
    first_offset bigint           not null,
    last_offset  bigint           not null,
    first_at     timestamptz      not null default now(),
    last_at      timestamptz      not null default now(),
    run_id       bigint,
    digests      bigint           not null,
    log          integer          not null,
    partitions   integer          not null,
    slices       integer,
    slice        integer,
    scope        text collate "C" not null,
    data         bytea            not null,
    constraint packs_pkey primary key (lane_id, scope, pack_id),
    constraint packs_scope_length check (octet_length(scope) between 1 and 255),
    constraint packs_offsets_in_order check (first_offset <= last_offset),
    constraint packs_times_in_order check (first_at <= last_at),
    constraint packs_digests_not_negative check (digests >= 0),
    constraint packs_log_not_negative check (log >= 0),
    constraint packs_partitions_not_negative check (partitions >= 0),
    constraint packs_slice_of_slices check ((slices is null) = (slice is null)),
    constraint packs_slice_in_range check (slice = 0 and slices = 0 or slice >= 0 and slice < slices)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 50000
);

alter table {schema}.packs alter column data set storage external;

create index packs_run_idx on {schema}.packs (run_id) where run_id is not null;
-- Many rows of few values, of which the index has each value once.
create index packs_scope_idx on {schema}.packs (scope, partitions);

comment on table {schema}.packs is
    'Packed markers: for each batch of a scope that keeps its markers so, the digests of its keys. '
    'Small neighbours are merged into one row later.';
comment on column {schema}.packs.pack_id is 'The number of the row.';
comment on column {schema}.packs.lane_id is
    'The lane that wrote it. Deliberately no foreign key, which would lock the lane with each batch.';
comment on column {schema}.packs.first_offset is 'The lowest offset in it.';
comment on column {schema}.packs.last_offset is 'The highest offset in it.';
comment on column {schema}.packs.first_at is 'The time of the transaction of its oldest digest.';
comment on column {schema}.packs.last_at is 'The time of the transaction of its newest digest.';
comment on column {schema}.packs.run_id is
    'The run that its digests are in, too (see runs). Null as long as the lane''s owner has them in '
    'memory. Deliberately no foreign key: a run goes when its last row does.';
comment on column {schema}.packs.digests is 'How many digests there are.';
comment on column {schema}.packs.log is 'The number of the lane''s log that the offsets are of.';
comment on column {schema}.packs.partitions is
    'How many partitions the topic had, which decides where a key is found; 0 when that is of no '
    'meaning.';
comment on column {schema}.packs.slices is
    'Into how many slices the lane was divided; 0: into none. Null for a row that is for every slice.';
comment on column {schema}.packs.slice is 'Which of them wrote it, from 0.';
comment on column {schema}.packs.scope is 'Whose memory of the keys it is.';
comment on column {schema}.packs.data is
    'The offsets, and the digests: 16 bytes each, one after the other, most significant byte first.';

-- Runs -------------------------------------------------------------------------------------------

create table {schema}.runs (
    run_id   bigint           not null generated always as identity,
    lane_id  bigint           not null,
    added_at timestamptz      not null default now(),
    digests  bigint           not null,
    slices   integer          not null,
    slice    integer          not null,
    scope    text collate "C" not null,
    filter   bytea            not null,
    constraint runs_pkey primary key (run_id),
    constraint runs_lane_fkey foreign key (lane_id)
        references {schema}.lanes (lane_id) on delete cascade,
    constraint runs_scope_length check (octet_length(scope) between 1 and 255),
    constraint runs_digests_not_negative check (digests >= 0),
    constraint runs_slice_in_range check (slice = 0 and slices = 0 or slice >= 0 and slice < slices)
);

alter table {schema}.runs alter column filter set storage external;

create index runs_window_idx on {schema}.runs (lane_id, scope);

comment on table {schema}.runs is
    'Digests of packs that do not fit into the memory of the lane''s owner, in their order. What is '
    'true is in the packs; a run is an index of them, and goes with the last one of them.';
comment on column {schema}.runs.run_id is 'The number of the run.';
comment on column {schema}.runs.lane_id is 'The lane.';
comment on column {schema}.runs.added_at is 'When it was written.';
comment on column {schema}.runs.digests is 'How many digests there are.';
comment on column {schema}.runs.slices is
    'Into how many slices the lane was divided; 0: into none.';
comment on column {schema}.runs.slice is 'Which of them wrote it, from 0.';
comment on column {schema}.runs.scope is 'Whose memory of the keys it is.';
comment on column {schema}.runs.filter is
    'What tells, in the memory of the lane''s owner, most of the digests that are not in it.';

create table {schema}.run_blocks (
    run_id       bigint not null,
    from_digest  bytea  not null,
    data         bytea  not null,
    constraint run_blocks_pkey primary key (run_id, from_digest),
    constraint run_blocks_run_fkey foreign key (run_id)
        references {schema}.runs (run_id) on delete cascade,
    constraint run_blocks_from_digest_length check (octet_length(from_digest) = 16)
);

alter table {schema}.run_blocks alter column data set storage external;

comment on table {schema}.run_blocks is 'The digests of runs, some hundred in a row.';
comment on column {schema}.run_blocks.run_id is 'The run.';
comment on column {schema}.run_blocks.from_digest is
    'Digests from this one on, up to the one that the next block is from.';
comment on column {schema}.run_blocks.data is
    'The digests, ascending: 16 bytes each, one after the other, most significant byte first.';

-- Windows ----------------------------------------------------------------------------------------

create table {schema}.windows (
    lane_id bigint           not null,
    floor   bigint           not null,
    log     integer          not null,
    scope   text collate "C" not null,
    constraint windows_pkey primary key (lane_id, scope),
    constraint windows_lane_fkey foreign key (lane_id)
        references {schema}.lanes (lane_id) on delete cascade,
    constraint windows_scope_length check (octet_length(scope) between 1 and 255),
    constraint windows_floor_not_negative check (floor >= 0),
    constraint windows_log_not_negative check (log >= 0)
) with (fillfactor = 50);

comment on table {schema}.windows is 'What of the packed markers of a lane''s scope was forgotten.';
comment on column {schema}.windows.lane_id is 'The lane.';
comment on column {schema}.windows.floor is
    'Digests of offsets below it may be forgotten: an event that comes again from there is stale.';
comment on column {schema}.windows.log is 'The number of the lane''s log that the floor is of.';
comment on column {schema}.windows.scope is 'The scope.';

-- Dead letters -----------------------------------------------------------------------------------

comment on column {schema}.dead_letter_notes.action is
    'What: replayed, superseded (replayed, and its key had been processed by another event), '
    'replay_failed, dropped, edited, reopened (its key was forgotten, and its event given up on '
    'again).';
