//! The rules that need more than one value, and the way from what was read to the model. Everything
//! is checked before the first mistake is shown.
//!
//! Not here: the function's own rules (`signature.rs`).

mod marked;
mod reading;

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::{LitStr, Type};

use crate::attr::Attr;
use crate::errors::Errors;
use crate::function::Function;
use crate::key::{self, Key, Source};
use crate::lint::lint;
use crate::model::{Input, Model, Policy, Rejected};
use crate::policy::{MissingKey, OnFailure};
use crate::signature;
use crate::value::check_scope;
use crate::words::Word;

/// Into how many slices a partition is divided when there is an order per message key, and nobody
/// says into how many.
const SLICES: u16 = 4;

/// Makes a model of the attribute and the function, or says what is wrong with them.
pub(crate) fn check(
    attr: Attr,
    function: Function,
    mut errors: Errors,
) -> Result<Model, Box<Rejected>> {
    words(&attr, &mut errors);
    let associated = signature::refuse_associated(&function, &mut errors);
    signature::refuse_qualifiers(&function, &mut errors);
    let input = signature::input(&function, &mut errors);
    if let Some(input) = input.as_ref().filter(|input| input.is_optional()) {
        reading::optional(&attr, input, &mut errors);
    }
    let params = signature::params(&function, &mut errors);
    let output = signature::output(&function, &mut errors);
    let scope = scope(&attr, &function, &mut errors);

    let slices = slices(&attr, &mut errors);
    keys(&attr, &mut errors);
    reading::content_of_format(&attr, &mut errors);
    reading::content_of_types(&attr, &mut errors);
    beside(&attr, input.as_ref(), output.as_ref(), &mut errors);
    marked::markers(&attr, &mut errors);
    reading::types(&attr, &mut errors);
    reading::types_of_format(&attr, &mut errors);
    let Attr { key, store, topics, format, retry, .. } = attr;
    let Attr { permanent, on_failure, isolation, timeout, .. } = attr;
    let (tenant, missing_key) = (attr.tenant.given(), attr.missing_key.given());
    let key = match (key, tenant) {
        (Word::Given(Key::Sources(own)), tenant) => {
            let sources: Vec<_> = tenant.into_iter().chain(own).collect();
            Word::Given(Key::Sources(sources))
        }
        (key, _) => key,
    };
    match (key, store, input, output) {
        (Word::Given(key), Word::Given(store), Some(input), Some(output)) if errors.len() == 0 => {
            let policy = Policy {
                retry: retry.given(),
                on_failure: on_failure.given(),
                isolation: isolation.given(),
                timeout: timeout.given(),
                slices,
                missing_key: missing_key.map(|(answer, _)| answer),
                payload_check: attr.payload_check.given().map(|(check, _)| check),
                markers: attr.markers.given().map(|(markers, _)| markers),
            };
            let (topics, format) = (topics.given(), format.given());
            let permanent = permanent.given();
            let model = Model {
                function,
                key,
                allow: attr.allow.given(),
                store,
                topics,
                format,
                types: attr.types.given(),
                type_from: attr.type_from.given(),
                scope,
                input,
                params,
                output,
                policy,
                permanent,
                effects: attr.effects.given().map(|(effects, _)| effects),
                store_result: attr.store_result.given().map(|(bytes, _)| bytes),
            };
            Ok(model)
        }
        (_, store, input, _) => {
            let store = store.given();
            Err(Box::new(Rejected { errors, function, store, input, associated }))
        }
    }
}

/// The rules of the words.
fn words(attr: &Attr, errors: &mut Errors) {
    let here = Span::call_site();
    if matches!(attr.key, Word::Absent) {
        errors.at(
            here,
            "the key is missing: name the field of the event that makes two deliveries the same, \
             `key = \"event_id\"`",
        );
    }
    if matches!(attr.store, Word::Absent) {
        errors.at(
            here,
            "the store is missing: name the database that the handler writes to, \
             `store = \"postgres\"`",
        );
    }
    if let (Word::Absent, Word::Given(format)) = (&attr.topics, &attr.format) {
        errors.at(
            format.span(),
            "a format is how a Kafka message is read: add `topic = \"..\"`; without one there is \
             nothing to decode",
        );
    }
    if matches!(attr.topics, Word::Absent) {
        without_topic(attr, errors);
    }
}

/// What needs a message, where there are none.
fn without_topic(attr: &Attr, errors: &mut Errors) {
    if let Word::Given(Key::Offset(span)) = &attr.key {
        errors.at(
            *span,
            "`offset` is the place of a Kafka message: add `topic = \"..\"`, or take the key from a \
             field of the event (a field called `offset` is `key = \"offset\"`)",
        );
    }
    for source in sources(attr).filter(|it| it.needs_message()) {
        let what = match source {
            Source::Header(_) => "a header is",
            Source::MessageKey(_) => "the message key is",
            _ => "what is hashed is the payload,",
        };
        errors.at(
            source.span(),
            format!(
                "{what} a part of a Kafka message: add `topic = \"..\"`, or take the key from a \
                 field of the event"
            ),
        );
    }
    if let Word::Given((MissingKey::CONTENT_HASH, span)) = &attr.missing_key {
        errors.at(
            *span,
            "what is hashed is the payload, a part of a Kafka message: add `topic = \"..\"`, or \
             choose another answer",
        );
    }
}

/// The rules of what the key is made of.
fn keys(attr: &Attr, errors: &mut Errors) {
    let tenant = match &attr.tenant {
        Word::Given(tenant) => Some(tenant),
        _ => None,
    };
    match &attr.key {
        Word::Given(Key::Offset(_)) => {
            if let Some(tenant) = tenant {
                errors.at(
                    tenant.span(),
                    "`key = offset` tells each event from every other already; leave `tenant` out",
                );
            }
            if let Word::Given((_, span)) = &attr.missing_key {
                errors.at(*span, "no event is without an offset; leave `missing_key` out");
            }
        }
        Word::Given(Key::Sources(own)) => {
            let sources: Vec<&Source> = tenant.into_iter().chain(own).collect();
            if tenant.is_some() {
                key::refuse_twice(&sources, errors);
            }
            if let Word::Given((MissingKey::CONTENT_HASH, span)) = &attr.missing_key {
                content_instead(own, tenant.is_some(), *span, errors);
            }
            match &attr.allow {
                Word::Given(allow) => lint(&sources, tenant.is_some(), Some(allow), errors),
                Word::Absent => lint(&sources, tenant.is_some(), None, errors),
                Word::Broken => {}
            }
            return;
        }
        _ => return,
    }
    if let Word::Given(allow) = &attr.allow {
        lint(&[], false, Some(allow), errors);
    }
}

/// The rules of a content hash in the place of a missing key.
fn content_instead(own: &[Source], tenant: bool, span: Span, errors: &mut Errors) {
    if own.iter().any(|source| matches!(source, Source::Content(_))) {
        errors.at(
            span,
            "the key is a content hash already: say which of its fields need not be there, \
             `optional(\"coupon\")`, or choose another answer",
        );
    } else if tenant {
        errors.at(
            span,
            "the hash of what an event says would leave the tenant out, so that equal events of two \
             tenants would be one; choose another answer, or put the hash beside the tenant: \
             `key = content_hash`",
        );
    }
}

/// The rules of what is kept beside the marker.
fn beside(attr: &Attr, input: Option<&Input>, output: Option<&Type>, errors: &mut Errors) {
    let offset = matches!(&attr.key, Word::Given(Key::Offset(_)));
    if let Word::Given((_, span)) = &attr.store_result {
        if offset {
            errors.at(
                *span,
                "`key = offset` keeps no markers, so that there is nothing to store a \
                 result beside; leave `store_result` out, or take the key from the event",
            );
        }
        if input.is_some_and(|input| input.is_batch) {
            errors.at(
                *span,
                "a batch handler returns one result for many events, and each event has \
                 a marker of its own; leave `store_result` out, or take one event a call",
            );
        }
        if matches!(output, Some(Type::Infer(_))) {
            errors.at(
                *span,
                "a result whose type has no name cannot be read again; write the type in \
                 place of `impl`",
            );
        }
    }
    if let Word::Given((_, span)) = &attr.effects {
        if offset {
            errors.at(
                *span,
                "an attempt is written down in the marker of its key, and `key = offset` \
                 keeps no markers; take the key from the event",
            );
        }
        if input.is_some_and(|input| input.is_batch) {
            errors.at(
                *span,
                "effects outside of the database are made one by one, each with an \
                 attempt of its own; take one event a call",
            );
        }
        if matches!(attr.on_failure, Word::Given(OnFailure::ParkKey(_))) {
            errors.at(
                *span,
                "what waits behind a parked event is worked in batches, which events with \
                 effects outside of the database are not; choose \"dead_letter\" or \"stop\" for \
                 `on_failure`",
            );
        }
        if let Word::Given((MissingKey::PROCESS_WITHOUT_GUARANTEE, missing)) = &attr.missing_key {
            errors.at(
                *missing,
                "an attempt with effects outside of the database is written down in the marker of its \
                 key, and an event that is processed without a key has none: nobody would know that \
                 its effect may have happened; choose \"dead_letter\", \"stop\" or \"content_hash\"",
            );
        }
    }
    if let Word::Given((_, span)) = &attr.payload_check {
        if offset {
            errors.at(
                *span,
                "of each offset there is one payload, and `key = offset` keeps no \
                 markers; leave `payload_check` out",
            );
        }
        if let Word::Given(Key::Sources(own)) = &attr.key
            && own.iter().any(|source| matches!(source, Source::Content(_)))
        {
            errors.at(
                *span,
                "the key is a hash of what the payload says, so that another payload has \
                 another key; leave `payload_check` out",
            );
        }
        if matches!(attr.topics, Word::Absent) {
            errors.at(
                *span,
                "what is compared is the payload, a part of a Kafka message: add \
                 `topic = \"..\"`, or leave `payload_check` out",
            );
        }
    }
}

/// The scope: the function's name, unless named.
fn scope(attr: &Attr, function: &Function, errors: &mut Errors) -> LitStr {
    if let Word::Given(scope) = &attr.scope {
        return scope.clone();
    }
    let name = &function.sig.ident;
    let text = name.unraw().to_string();
    if matches!(attr.scope, Word::Absent) {
        check_scope(&text, name.span(), errors);
    }
    LitStr::new(&text, name.span())
}

/// What the key is made of, with the tenant.
fn sources(attr: &Attr) -> impl Iterator<Item = &Source> {
    let tenant = match &attr.tenant {
        Word::Given(tenant) => Some(tenant),
        _ => None,
    };
    let own = match &attr.key {
        Word::Given(Key::Sources(sources)) => sources.as_slice(),
        _ => &[],
    };
    tenant.into_iter().chain(own)
}

/// Into how many slices a partition is divided, if it is.
fn slices(attr: &Attr, errors: &mut Errors) -> Option<u16> {
    if let (Word::Given(order), Word::Given(Key::Offset(_))) = (&attr.order_by, &attr.key) {
        errors.at(
            *order,
            "slices of a partition move on by themselves, and `key = offset` needs one position \
             that says what is done; take the key from a field of the event or from a header",
        );
    }
    match (&attr.order_by, &attr.slices) {
        (Word::Absent, Word::Given((_, slices))) => {
            errors.at(
                *slices,
                "without an order per key nobody could say which slice an event belongs to; add \
                 `order_by = \"message_key\"`",
            );
            None
        }
        (Word::Given(_), Word::Given((slices, _))) => Some(*slices),
        (Word::Given(_), _) => Some(SLICES),
        (Word::Absent | Word::Broken, _) => None,
    }
}
