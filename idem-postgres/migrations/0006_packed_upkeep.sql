-- Packed markers: what looks after them.
--
-- The tables of migration 5, the lanes and the scopes are locked for the moment this takes.

-- From outside of a lane -------------------------------------------------------------------------

-- Rows for every slice are for all lanes of their topic, which look for them again and again. There are
-- few.
create index packs_elsewhere_idx on {schema}.packs (scope, pack_id) where slices is null;

comment on column {schema}.packs.slices is
    'Into how many slices the lane was divided; 0: into none. Null for a row that is for every slice, '
    'and for every lane of the topic if these ask for what was packed under another layout.';

-- Lanes that are deleted by hand -----------------------------------------------------------------

-- Rows of packed markers name their lane by its number, and the lane that would be made in its place has
-- another one: it would know nothing of them, and everything would be done again.
create function {schema}.keep_packed_lane() returns trigger
language plpgsql as $$
begin
    if coalesce(current_setting('idem.forgetting', true), '') <> 'on'
        and exists (select from {schema}.packs pack where pack.lane_id = old.lane_id)
    then
        raise exception 'lane % (group %, topic %, partition %) has packed markers, which nobody would find without it',
            old.lane_id, old.group_name, old.topic, old.partition
            using errcode = 'restrict_violation',
                  hint = 'Everything that they are of would be done again. If that is meant, delete its rows of the table packs first.';
    end if;
    return old;
end
$$;

comment on function {schema}.keep_packed_lane() is
    'Refuses to delete a lane that has packed markers. Programs that forget all of a group say so '
    '(idem.forgetting).';

create trigger lanes_keep_packed before delete on {schema}.lanes
    for each row execute function {schema}.keep_packed_lane();

-- Merged runs ------------------------------------------------------------------------------------

alter table {schema}.runs add column is_finished boolean not null default true;

comment on column {schema}.runs.is_finished is
    'Whether it is there for who asks. Otherwise it is being written to take the place of others, or '
    'others have taken its place, and the lane''s owner deletes it.';

-- What is packed, and by which key ---------------------------------------------------------------

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
