-- Groups whose instances each read everything: which instances there are.

create table {schema}instances (
    -- One that was not seen for as long as the group says is forgotten: its lanes, scopes, markers and
    -- dead letters go with it.
    group_name     text    not null, -- the Kafka consumer group of the instance
    broadcast_name text    not null, -- the group as all its instances call it
    seen_at        integer not null default (cast(round(unixepoch('subsec') * 1000) as integer)),
    constraint instances_pkey primary key (group_name),
    constraint instances_group_name_length
        check (length(cast(group_name as blob)) between 1 and 255),
    constraint instances_broadcast_name_length
        check (length(cast(broadcast_name as blob)) between 1 and 255)
) strict;
