-- Upkeep of packed markers.

-- Merged runs ------------------------------------------------------------------------------------

alter table {schema}.runs add column is_finished boolean not null default true;

comment on column {schema}.runs.is_finished is
    'Whether it is there for who asks. Otherwise it is being written to take the place of others, or '
    'others have taken its place, and the lane''s owner deletes it.';
