-- Markers are found by 16 bytes in place of two texts, and say more of their event.
--
-- The table of markers is rewritten and locked meanwhile: some seconds for each million. Programs of
-- former releases cannot write markers from here on (they fail, and lose nothing): stop them first.

create function {schema}.marker_id(scope text, event_key text) returns uuid
language sql immutable strict parallel safe as $$
    select pg_catalog.encode(
        pg_catalog.substr(
            pg_catalog.sha256(
                pg_catalog.convert_to($1, 'UTF8') || '\x00'::bytea
                || pg_catalog.convert_to($2, 'UTF8')
            ), 1, 16
        ), 'hex'
    )::uuid
$$;

comment on function {schema}.marker_id(text, text) is
    'The id of the marker of a key in a scope: the first 16 bytes of the SHA-256 of the scope, a zero '
    'byte and the key.';

alter table {schema}.markers
    add column marker_id      uuid,
    add column fingerprint    bytea,
    add column correlation_id text,
    add column causation_id   text,
    add column result         jsonb;
-- Writes each row once, where an update would leave the old ones behind.
alter table {schema}.markers
    alter column marker_id type uuid using {schema}.marker_id(scope, event_key);
alter table {schema}.markers
    drop constraint markers_pkey,
    drop constraint markers_state_known,
    add constraint markers_pkey primary key (marker_id),
    add constraint markers_state_known check (state in (0, 1, 2, 3));

drop index {schema}.markers_given_up_idx;
create index markers_given_up_idx on {schema}.markers (scope, marker_id) where state <> 0;

comment on column {schema}.markers.marker_id is
    'marker_id(scope, event_key): what is unique, and what to look up a marker by.';
comment on column {schema}.markers.state is
    '0 processed, 1 dead, 2 parked, 3 begun (the effects are outside of the database, and whether '
    'they happened is not known).';
comment on column {schema}.markers.attempt is
    'The call that wrote it, when it did not come from Kafka, or that has begun: tells a caller whose '
    'commit was lost that the marker is its own.';
comment on column {schema}.markers.fingerprint is
    'The first 16 bytes of the SHA-256 of the payload''s content, of handlers that check it.';
comment on column {schema}.markers.correlation_id is 'Which chain of events it belongs to.';
comment on column {schema}.markers.causation_id is 'Which event or command it was caused by.';
comment on column {schema}.markers.result is
    'What the handler returned, of handlers whose results are stored.';

create or replace view {schema}.processed_events as
select m.scope,
       m.event_key,
       m.processed_at,
       case m.state
           when 0 then 'processed' when 1 then 'dead' when 2 then 'parked' when 3 then 'begun'
       end as state,
       l.group_name,
       l.topic,
       l.partition,
       m.source_offset as "offset",
       m.metadata,
       m.attempt,
       m.marker_id,
       m.fingerprint,
       m.correlation_id,
       m.causation_id,
       m.result
from {schema}.markers m
left join {schema}.lanes l on l.lane_id = m.lane_id;

comment on view {schema}.processed_events is
    'The markers with their origins, for people. A marker is found at once by its marker_id, or with '
    'processed_event(scope, event_key).';
comment on column {schema}.processed_events.state is 'processed, dead, parked or begun.';
comment on column {schema}.processed_events.marker_id is 'marker_id(scope, event_key).';
comment on column {schema}.processed_events.fingerprint is
    'What tells another payload under the same key, of handlers that check it.';
comment on column {schema}.processed_events.correlation_id is
    'Which chain of events it belongs to.';
comment on column {schema}.processed_events.causation_id is
    'Which event or command it was caused by.';
comment on column {schema}.processed_events.result is
    'What the handler returned, of handlers whose results are stored.';

create function {schema}.processed_event(scope text, event_key text)
returns setof {schema}.processed_events
language sql stable strict as $$
    select * from {schema}.processed_events where marker_id = {schema}.marker_id($1, $2)
$$;

comment on function {schema}.processed_event(text, text) is 'The marker of a key in a scope.';

-- Claims -----------------------------------------------------------------------------------------

-- Markers of new keys without the cost of ON CONFLICT, which inserts each row speculatively first.
-- Somebody else may insert one of them meanwhile; then all of it is done again with ON CONFLICT.
--
-- A lookup in the index for each key, whatever the server believes of the table's size.
create function {schema}.claim_keys(
    lane bigint, claimed_scope text, ids uuid[], keys text[], offsets bigint[]
) returns bigint[]
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    fresh bigint[];
begin
    begin
        with inserted as (
            insert into {schema}.markers (marker_id, lane_id, source_offset, scope, event_key)
            select c.id, lane, c.at_offset, claimed_scope, c.key
            from unnest(ids, keys, offsets) with ordinality as c (id, key, at_offset, place)
            where not exists (select from {schema}.markers m where m.marker_id = c.id)
            order by c.place
            returning source_offset
        )
        select array_agg(source_offset) into fresh from inserted;
    exception when unique_violation then
        with inserted as (
            insert into {schema}.markers (marker_id, lane_id, source_offset, scope, event_key)
            select c.id, lane, c.at_offset, claimed_scope, c.key
            from unnest(ids, keys, offsets) with ordinality as c (id, key, at_offset, place)
            order by c.place
            on conflict (marker_id) do nothing
            returning source_offset
        )
        select array_agg(source_offset) into fresh from inserted;
    end;
    return coalesce(fresh, array[]::bigint[]);
end
$$;

comment on function {schema}.claim_keys(bigint, text, uuid[], text[], bigint[]) is
    'Inserts markers of one scope, in this order, and returns the offsets of those that are new.';
