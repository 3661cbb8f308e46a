-- Dead letters: edits of headers and message keys.
--
-- The dead letters are read once, and locked meanwhile. Programs of former releases do not see such
-- edits: do not replay with one what was edited so.

alter table {schema}.dead_letters
    add column edited_message_key    bytea,
    add column edited_header_names   text[],
    add column edited_header_values  bytea[],
    add column is_message_key_edited boolean not null default false,
    add column are_headers_edited    boolean not null default false,
    add constraint dead_letters_edited_headers_are_pairs
        check (cardinality(edited_header_names) is not distinct from
               cardinality(edited_header_values));

comment on column {schema}.dead_letters.is_message_key_edited is
    'Whether edited_message_key, and not message_key, is what a replay works on.';
comment on column {schema}.dead_letters.edited_message_key is
    'What a person put in place of the message key; null is none if is_message_key_edited. Events are '
    'parked by message_key all the same.';
comment on column {schema}.dead_letters.are_headers_edited is
    'Whether edited_header_names and edited_header_values, and not header_names and header_values, are '
    'what a replay works on.';
comment on column {schema}.dead_letters.edited_header_names is
    'What a person put in place of the names of the headers; null, if are_headers_edited, when there are '
    'none.';
comment on column {schema}.dead_letters.edited_header_values is 'Their values, in the same order.';

comment on column {schema}.markers.fingerprint is
    'Of handlers that compare payloads: the first 16 bytes of the SHA-256 of the payload''s content, or '
    'of its bytes where it has no single content; zeros for a tombstone.';
