-- Packed markers: what is known of before a log lost its tail, and of before a scope was switched.
--
-- The lanes, the scopes and the table windows are locked for the moment this takes.

alter table {schema}.lanes
    add column first_log  integer not null default 0,
    add column handled_to bigint  not null default 0,
    add constraint lanes_first_log_not_above_log check (first_log between 0 and log),
    add constraint lanes_handled_to_not_negative check (handled_to >= 0);

comment on column {schema}.lanes.log is
    'The number of the log that the position belongs to: one more each time the topic was made anew, or '
    'lost its tail.';
comment on column {schema}.lanes.first_log is
    'The lowest of these numbers of which Kafka may still deliver something: it was given when the topic '
    'was made anew.';
comment on column {schema}.lanes.handled_to is
    'What lay below it was handled before the position was moved back, in the log as it is now.';

alter table {schema}.windows add column is_early boolean not null default false;

comment on column {schema}.windows.is_early is
    'Whether digests below the floor were forgotten though Kafka could still deliver their events.';

alter table {schema}.scopes
    add column window_length interval,
    add constraint scopes_window_length_not_negative check (window_length >= interval '0');

comment on column {schema}.scopes.window_length is
    'How long packed markers are kept at least, as its handler said when it packed last.';
