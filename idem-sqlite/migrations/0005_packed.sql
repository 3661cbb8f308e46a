-- Packed markers: rows of digests, written by lanes that know by themselves which keys are new.

-- What the digests of packed markers are made with. Another one would make every packed key new.
alter table {schema}store add column digest_key blob
    constraint store_digest_key_length check (digest_key is null or length(digest_key) = 16);

update {schema}store set digest_key = randomblob(16);

-- When it began to keep its markers in another form than before; null if it never did.
alter table {schema}scopes add column switched_at integer;

-- The number of the log that the position belongs to: one more each time the topic was made anew.
alter table {schema}lanes add column log integer not null default 0
    constraint lanes_log_not_negative check (log >= 0);

create table {schema}packs (
    -- Packed markers: for each batch of a scope that keeps its markers so, the digests of its keys.
    -- Small neighbours are merged into one row later.
    pack_id      integer primary key autoincrement, -- never used again: owners of lanes name it
    lane_id      integer not null, -- the lane that wrote it
    scope        text    not null, -- whose memory of the keys it is
    first_offset integer not null, -- the lowest offset in it
    last_offset  integer not null, -- the highest offset in it
    first_at     integer not null, -- the time of the transaction of its oldest digest
    last_at      integer not null, -- the time of the transaction of its newest digest
    run_id       integer,          -- the run that its digests are in, too (see runs)
    digests      integer not null, -- how many there are
    log          integer not null, -- the number of the lane's log that the offsets are of
    partitions   integer not null, -- how many the topic had; 0 when that is of no meaning
    slices       integer,          -- of the lane; 0 for none, null for a row that is for every slice
    slice        integer,          -- which of them wrote it, from 0
    data         blob    not null, -- the offsets, and the digests, of 16 bytes each
    constraint packs_scope_length check (length(cast(scope as blob)) between 1 and 255),
    constraint packs_offsets_in_order check (first_offset <= last_offset),
    constraint packs_times_in_order check (first_at <= last_at),
    constraint packs_digests_not_negative check (digests >= 0),
    constraint packs_log_not_negative check (log >= 0),
    constraint packs_partitions_not_negative check (partitions >= 0),
    constraint packs_slice_of_slices check ((slices is null) = (slice is null)),
    constraint packs_slice_in_range check (slice = 0 and slices = 0 or slice >= 0 and slice < slices)
) strict;

create index {schema}packs_window_idx on {schema}packs (lane_id, scope, pack_id)
    where run_id is null;
create index {schema}packs_run_idx on {schema}packs (run_id) where run_id is not null;
create index {schema}packs_scope_idx on {schema}packs (scope, partitions);

create table {schema}runs (
    -- Digests of packs that do not fit into the memory of the lane's owner, in their order. What is
    -- true is in the packs; a run is an index of them, and goes with the last one of them.
    run_id   integer primary key autoincrement, -- never used again: owners of lanes name it
    lane_id  integer not null, -- the lane
    scope    text    not null, -- whose memory of the keys it is
    added_at integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    digests  integer not null, -- how many there are
    slices   integer not null, -- into how many the lane was divided; 0: into none
    slice    integer not null, -- which of them wrote it, from 0
    filter   blob    not null, -- tells, in memory, most of the digests that are not in it
    constraint runs_lane_fkey foreign key (lane_id)
        references {schema}lanes (lane_id) on delete cascade,
    constraint runs_scope_length check (length(cast(scope as blob)) between 1 and 255),
    constraint runs_digests_not_negative check (digests >= 0),
    constraint runs_slice_in_range check (slice = 0 and slices = 0 or slice >= 0 and slice < slices)
) strict;

create index {schema}runs_window_idx on {schema}runs (lane_id, scope);

create table {schema}run_blocks (
    -- The digests of runs, some hundred in a row.
    run_id      integer not null, -- the run
    from_digest blob    not null, -- digests from this one on, up to the one the next block is from
    data        blob    not null, -- the digests, ascending, of 16 bytes each
    constraint run_blocks_pkey primary key (run_id, from_digest),
    constraint run_blocks_run_fkey foreign key (run_id)
        references {schema}runs (run_id) on delete cascade,
    constraint run_blocks_from_digest_length check (length(from_digest) = 16)
) strict, without rowid;

create table {schema}windows (
    -- What of the packed markers of a lane's scope was forgotten.
    lane_id integer not null, -- the lane
    scope   text    not null, -- the scope
    log     integer not null, -- the number of the lane's log that the floor is of
    floor   integer not null, -- an event of a lower offset that comes again is stale
    constraint windows_pkey primary key (lane_id, scope),
    constraint windows_lane_fkey foreign key (lane_id)
        references {schema}lanes (lane_id) on delete cascade,
    constraint windows_scope_length check (length(cast(scope as blob)) between 1 and 255),
    constraint windows_floor_not_negative check (floor >= 0),
    constraint windows_log_not_negative check (log >= 0)
) strict, without rowid;
