-- Dead letters: edits of headers and message keys.
--
-- Programs of former releases do not see such edits: do not replay with one what was edited so.

-- 1 when edited_message_key stands for the message key. Events are parked by message_key all the same.
alter table {schema}dead_letters add column is_message_key_edited integer not null default 0
    constraint dead_letters_is_message_key_edited_known check (is_message_key_edited in (0, 1));

-- 1 when edited_headers stand for the headers.
alter table {schema}dead_letters add column are_headers_edited integer not null default 0
    constraint dead_letters_are_headers_edited_known check (are_headers_edited in (0, 1));

-- What a person put in place of the message key.
alter table {schema}dead_letters add column edited_message_key blob;

-- What a person put in place of the headers, in the same form.
alter table {schema}dead_letters add column edited_headers text
    constraint dead_letters_edited_headers_is_json
    check (edited_headers is null or json_valid(edited_headers));
