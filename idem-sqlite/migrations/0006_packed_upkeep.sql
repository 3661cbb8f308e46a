-- Upkeep of packed markers ------------------------------------------------------------------------

-- Which digest key the packed markers of a lane are made with (see store): the first bytes of a SHA-256
-- of it. Null as long as nobody has packed there. With another key nothing is worked.
alter table {schema}lanes add column digest_key_id blob
    constraint lanes_digest_key_id_length
    check (digest_key_id is null or length(digest_key_id) = 8);

-- When it was retired; null if it is active.
alter table {schema}scopes add column retired_at integer;
-- When what it had packed began to be deleted, some time after it was retired.
alter table {schema}scopes add column forgotten_at integer;

update {schema}scopes set retired_at = cast(round(unixepoch('subsec') * 1000) as integer)
where state = 'retired';
