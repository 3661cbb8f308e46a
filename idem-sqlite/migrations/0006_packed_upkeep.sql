-- Packed markers: what looks after them.

-- From outside of a lane -------------------------------------------------------------------------

-- Rows for every slice are for all lanes of their topic, which look for them again and again. There are
-- few.
create index {schema}packs_elsewhere_idx on {schema}packs (scope, pack_id) where slices is null;

-- Lanes that are deleted by hand -----------------------------------------------------------------

-- Rows of packed markers name their lane by its number, and the lane that would be made in its place has
-- another one: it would know nothing of them, and everything would be done again. Whoever means that
-- deletes the rows of the table packs first.
create trigger {schema}lanes_keep_packed before delete on {schema}lanes
when exists (select 1 from {schema}packs pack where pack.lane_id = old.lane_id)
begin
    select raise(abort, 'the lane has packed markers, which nobody would find without it: should everything that they are of be done again, delete its rows of the table packs first');
end;

-- Merged runs ------------------------------------------------------------------------------------

-- Whether it is there for who asks. Otherwise it is being written to take the place of others, or others
-- have taken its place, and the lane's owner deletes it.
alter table {schema}runs add column is_finished integer not null default 1
    constraint runs_is_finished_known check (is_finished in (0, 1));

-- What is packed, and by which key ---------------------------------------------------------------

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
