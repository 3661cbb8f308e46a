-- Upkeep of packed markers ------------------------------------------------------------------------
--
-- The tables of migration 1 are locked for the moment this takes.

alter table {schema}.lanes add column digest_key_id bytea;
alter table {schema}.lanes
    add constraint lanes_digest_key_id_length check (octet_length(digest_key_id) = 8);

comment on column {schema}.lanes.digest_key_id is
    'Which digest key its packed markers are made with (see store): the first bytes of a SHA-256 of '
    'it. Null as long as nobody has packed there. With another key nothing is worked.';

alter table {schema}.scopes add column retired_at timestamptz;
alter table {schema}.scopes add column forgotten_at timestamptz;

update {schema}.scopes set retired_at = now() where state = 'retired';

comment on column {schema}.scopes.retired_at is 'When it was retired; null if it is active.';
comment on column {schema}.scopes.forgotten_at is
    'When what it had packed began to be deleted, some time after it was retired.';
