-- Packed markers: what looks after them.
--
-- The tables of migration 5 are locked for the moment this takes.

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
