//! The rules that need more than one value, and the way from what was read to the model. Everything
//! is checked before the first mistake is shown.
//!
//! Not here: the function's own rules (`signature.rs`).

use syn::LitStr;
use syn::ext::IdentExt as _;

use crate::attr::Attr;
use crate::errors::Errors;
use crate::function::Function;
use crate::key::Key;
use crate::model::{Input, Model, Policy, Rejected};
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
        optional(&attr, input, &mut errors);
    }
    let params = signature::params(&function, &mut errors);
    let output = signature::output(&function, &mut errors);
    let scope = scope(&attr, &function, &mut errors);

    let slices = slices(&attr, &mut errors);
    let Attr { key, store, topics, format, retry, .. } = attr;
    let Attr { permanent, on_failure, isolation, timeout, .. } = attr;
    match (key, store, input, output) {
        (Word::Given(key), Word::Given(store), Some(input), Some(output)) if errors.len() == 0 => {
            let policy = Policy {
                retry: retry.given(),
                on_failure: on_failure.given(),
                isolation: isolation.given(),
                timeout: timeout.given(),
                slices,
            };
            let (topics, format) = (topics.given(), format.given());
            let permanent = permanent.given();
            let model = Model {
                function,
                key,
                store,
                topics,
                format,
                scope,
                input,
                params,
                output,
                policy,
                permanent,
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
    let here = proc_macro2::Span::call_site();
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
        match &attr.key {
            Word::Given(Key::Header(name)) => errors.on(
                name,
                "a header is a part of a Kafka message: add `topic = \"..\"`, or take the key from \
                 a field of the event",
            ),
            Word::Given(Key::Offset(span)) => errors.at(
                *span,
                "`offset` is the place of a Kafka message: add `topic = \"..\"`, or take the key \
                 from a field of the event (a field called `offset` is `key = \"offset\"`)",
            ),
            _ => {}
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

/// The rules of an event that may be missing.
fn optional(attr: &Attr, input: &Input, errors: &mut Errors) {
    if let Word::Given(Key::Fields(fields)) = &attr.key {
        for field in fields {
            errors.at(
                field.span,
                "a message without a payload (a tombstone) has no fields, so that the key of an \
                 `Option` event cannot be one: take it from the message, `key = header(\"..\")` or \
                 `key = offset`",
            );
        }
    } else if let (Word::Absent, Some(inside)) = (&attr.topics, &input.inside) {
        errors.on(
            inside,
            "an event in an `Option` may be a Kafka message without a payload: add `topic = \"..\"`, \
             or take the event without the `Option`",
        );
    }
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
