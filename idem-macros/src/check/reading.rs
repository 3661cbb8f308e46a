//! The rules of how an event is read: its format, its types, and whether it may be missing.

use super::sources;
use crate::attr::Attr;
use crate::errors::Errors;
use crate::key::{Selected, Source};
use crate::model::Input;
use crate::policy::MissingKey;
use crate::types::{TypeFrom, TypePlace, Types};
use crate::words::Word;

/// The rules of types and where they are.
pub(super) fn types(attr: &Attr, errors: &mut Errors) {
    if let (Word::Absent, Word::Given(types)) = (&attr.topics, &attr.types) {
        errors.at(
            types.span(),
            "a handler that reads no topic is given its events by its caller, so their types choose \
             nothing: add `topic = \"..\"`, or remove `types`",
        );
    }
    if let (Word::Absent, Word::Given(from)) = (&attr.types, &attr.type_from) {
        errors
            .at(from.span, "nobody asks for the type: add `types = \"..\"`, or remove `type_from`");
    }
}

/// The rules of types and where they are, of events in another format than JSON.
pub(super) fn types_of_format(attr: &Attr, errors: &mut Errors) {
    let Word::Given(format) = &attr.format else { return };
    if let Word::Given(Types::Of(_)) = &attr.types
        && !format.is_json()
    {
        errors.at(
            format.span(),
            "the variants of an enum of event types are read from JSON: leave `format` out, or take \
             an event of a type that this format reads, and choose by pattern, \
             `types = \"order.*\"`",
        );
    }
    if let Word::Given(TypeFrom { place: TypePlace::Field(_), span }) = &attr.type_from
        && !format.has_json_fields()
    {
        errors.at(
            *span,
            "a type is read from a field of JSON only, which the payload in this format is not: let \
             the producer name it in a header, `type_from = header(\"event-type\")`, or take \
             `type_from = topic`",
        );
    }
}

/// The rules of a hash of what a message says, where its type is said elsewhere: an order that is placed
/// and one that is cancelled can have the same payload.
pub(super) fn content_of_types(attr: &Attr, errors: &mut Errors) {
    const WHY: &str = "events of two types can say the same, and would be one";
    if !matches!(attr.types, Word::Given(_)) {
        return;
    }
    let in_payload =
        matches!(&attr.type_from, Word::Given(TypeFrom { place: TypePlace::Field(_), .. }));
    let mut sources = sources(attr);
    if let (Some(Source::Content(content)), None) = (sources.next(), sources.next())
        && !(in_payload && matches!(content.selected, Selected::All))
    {
        let message = format!(
            "{WHY}: put the type beside the hash, `key = (header(\"event-type\"), content_hash)`"
        );
        errors.at(content.span, message);
    }
    if let Word::Given((MissingKey::CONTENT_HASH, span)) = &attr.missing_key
        && !in_payload
    {
        errors.at(*span, format!("{WHY}; choose another answer"));
    }
}

/// The rules of a hash of what a message in another format than JSON says.
pub(super) fn content_of_format(attr: &Attr, errors: &mut Errors) {
    let Word::Given(format) = &attr.format else { return };
    if format.is_json() {
        return;
    }
    for source in sources(attr) {
        if let Source::Content(content) = source
            && !matches!(content.selected, Selected::All)
        {
            errors.at(
                source.span(),
                "fields can be chosen of JSON only: what an event in another format says is hashed as \
                 a whole, `key = content_hash`; or take fields of the event, \
                 `key = (\"a\", \"order.id\")`",
            );
        }
    }
}

/// The rules of an event that may be missing.
pub(super) fn optional(attr: &Attr, input: &Input, errors: &mut Errors) {
    let fields: Vec<_> = sources(attr).filter(|it| matches!(it, Source::Field(_))).collect();
    for field in &fields {
        errors.at(
            field.span(),
            "a message without a payload (a tombstone) has no fields, so that the key of an \
             `Option` event cannot be one: take it from the message, `key = header(\"..\")` or \
             `key = offset`; `message_key` is not enough, because later messages about the same \
             thing have it, too",
        );
    }
    if !fields.is_empty() {
        return;
    }
    if let (Word::Absent, Some(inside)) = (&attr.topics, &input.inside) {
        errors.on(
            inside,
            "an event in an `Option` may be a Kafka message without a payload: add `topic = \"..\"`, \
             or take the event without the `Option`",
        );
    }
}
