-- Markers say more of their event. The table is written anew, because SQLite cannot change the
-- constraint on what a marker's state can be.

drop view {schema}processed_events;
drop index {schema}markers_given_up_idx;

create table {schema}markers_anew (
    -- One row for each (scope, key) that was processed, written in the transaction of its effects.
    -- Read the view processed_events, which names the origins.
    scope          text    not null, -- whose memory of the key it is
    event_key      text    not null, -- the key of the event
    processed_at   integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    state          integer not null default 0, -- 0 processed, 1 dead, 2 parked, 3 begun
    lane_id        integer, -- the lane that processed it; null when it did not come from Kafka
    source_offset  integer, -- the offset of the event in that lane
    attempt        text,    -- the call that wrote it, when it did not come from Kafka or has begun
    metadata       text,    -- JSON: what the caller wanted to keep beside it
    fingerprint    blob,    -- tells another payload under the same key
    correlation_id text,    -- which chain of events it belongs to
    causation_id   text,    -- which event or command it was caused by
    result         text,    -- JSON: what the handler returned
    constraint markers_pkey primary key (scope, event_key),
    constraint markers_scope_length check (length(cast(scope as blob)) between 1 and 255),
    constraint markers_event_key_length check (length(cast(event_key as blob)) between 1 and 255),
    constraint markers_state_known check (state in (0, 1, 2, 3)),
    constraint markers_metadata_is_json check (metadata is null or json_valid(metadata)),
    constraint markers_result_is_json check (result is null or json_valid(result))
) strict, without rowid;

insert into {schema}markers_anew
    (scope, event_key, processed_at, state, lane_id, source_offset, attempt, metadata)
select scope, event_key, processed_at, state, lane_id, source_offset, attempt, metadata
from {schema}markers
order by scope, event_key;

drop table {schema}markers;
alter table {schema}markers_anew rename to {schema}markers;

-- The few markers of events that were given up on, or only begun.
create index {schema}markers_given_up_idx on {schema}markers (scope, event_key) where state <> 0;

create view {schema}processed_events as
-- The markers with their origins, for people.
select m.scope,
       m.event_key,
       strftime('%Y-%m-%d %H:%M:%f', m.processed_at / 1000.0, 'unixepoch') as processed_at,
       case m.state
           when 0 then 'processed' when 1 then 'dead' when 2 then 'parked' when 3 then 'begun'
       end as state,
       l.group_name,
       l.topic,
       l.partition,
       m.source_offset as "offset",
       m.metadata,
       m.attempt,
       lower(hex(m.fingerprint)) as fingerprint,
       m.correlation_id,
       m.causation_id,
       m.result
from {schema}markers m
left join {schema}lanes l on l.lane_id = m.lane_id;
