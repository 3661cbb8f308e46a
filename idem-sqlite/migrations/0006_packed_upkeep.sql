-- Upkeep of packed markers.

-- Merged runs ------------------------------------------------------------------------------------

-- Whether it is there for who asks. Otherwise it is being written to take the place of others, or others
-- have taken its place, and the lane's owner deletes it.
alter table {schema}runs add column is_finished integer not null default 1
    constraint runs_is_finished_known check (is_finished in (0, 1));
