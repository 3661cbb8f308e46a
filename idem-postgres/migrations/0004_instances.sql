-- Groups whose instances each read everything: which instances there are.

create table {schema}.instances (
    seen_at        timestamptz      not null default now(),
    group_name     text collate "C" not null,
    broadcast_name text collate "C" not null,
    constraint instances_pkey primary key (group_name),
    constraint instances_group_name_length check (octet_length(group_name) between 1 and 255),
    constraint instances_broadcast_name_length
        check (octet_length(broadcast_name) between 1 and 255)
) with (fillfactor = 50);

comment on table {schema}.instances is
    'Instances of groups that read everything in each instance. One that was not seen for as long as '
    'the group says is forgotten: its lanes, scopes, markers and dead letters go with it.';
comment on column {schema}.instances.seen_at is 'When it was last heard of.';
comment on column {schema}.instances.group_name is
    'The Kafka consumer group of the instance, which lanes and scopes belong to.';
comment on column {schema}.instances.broadcast_name is
    'The group as all its instances call it.';
