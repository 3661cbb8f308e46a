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
use crate::model::{Model, Policy, Rejected};
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
    let params = signature::params(&function, &mut errors);
    let output = signature::output(&function, &mut errors);
    let scope = scope(&attr, &function, &mut errors);

    let slices = slices(&attr, &mut errors);
    let Attr {
        key,
        store,
        topics,
        types,
        type_from,
        retry,
        permanent,
        on_failure,
        isolation,
        timeout,
        ..
    } = attr;
    match (key, store, input, output) {
        (Word::Given(key), Word::Given(store), Some(input), Some(output)) if errors.len() == 0 => {
            let policy = Policy {
                retry: retry.given(),
                on_failure: on_failure.given(),
                isolation: isolation.given(),
                timeout: timeout.given(),
                slices,
            };
            let (topics, permanent) = (topics.given(), permanent.given());
            let model = Model {
                function,
                key,
                store,
                topics,
                types: types.given(),
                type_from: type_from.given(),
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
    types(attr, errors);
}

/// The rules of types and where they are.
fn types(attr: &Attr, errors: &mut Errors) {
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
