-- Packed markers: what is known of before a log lost its tail, and of before a scope was switched.

-- The lowest number of a log of which Kafka may still deliver something: it was given when the topic was
-- made anew. The column log counts also when the topic lost its tail.
alter table {schema}lanes add column first_log integer not null default 0
    constraint lanes_first_log_not_negative check (first_log >= 0);

-- What lay below it was handled before the position was moved back, in the log as it is now.
alter table {schema}lanes add column handled_to integer not null default 0
    constraint lanes_handled_to_not_negative check (handled_to >= 0);

-- 1 when digests below the floor were forgotten though Kafka could still deliver their events.
alter table {schema}windows add column is_early integer not null default 0
    constraint windows_is_early_known check (is_early in (0, 1));

-- How long packed markers are kept at least, in milliseconds, as its handler said when it packed last.
alter table {schema}scopes add column window_length integer
    constraint scopes_window_length_not_negative check (window_length >= 0);
