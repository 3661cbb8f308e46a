//! The key: a function, and constants about it.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{ExprPath, Ident};

use super::here;
use crate::allow::Allow;
use crate::key::{Content, Field, Key, Selected, Source};
use crate::model::Model;

/// Whether the key is made of more than the event.
pub(super) fn needs_message(key: &Key) -> bool {
    match key {
        Key::Sources(sources) => sources.iter().any(Source::needs_message),
        Key::Offset(_) => true,
    }
}

/// The constant that says what the key is made of, if it is not only the event.
pub(super) fn kind(key: &Key) -> Option<TokenStream> {
    let kind = match key {
        Key::Sources(_) if needs_message(key) => "Message",
        Key::Sources(_) => return None,
        Key::Offset(_) => "Offset",
    };
    let kind = Ident::new(kind, here());
    Some(quote_spanned! {here()=>
        const KEY: ::idem::__private::KeySource = ::idem::__private::KeySource::#kind;
    })
}

/// The constant that keeps what was allowed, and why.
pub(super) fn allowed(allow: &Allow) -> TokenStream {
    let lints = allow.lints.iter().map(|(lint, _)| lint.name());
    let reason = &allow.reason;
    quote_spanned! {here()=>
        const ALLOWED: ::idem::__private::Pairs = &[#((#lints, #reason)),*];
    }
}

/// The key function.
pub(super) fn key(model: &Model) -> TokenStream {
    let event = &model.input.event;
    let maybe = model.policy.missing_key.is_some();
    let Made { event: event_name, body } = match &model.key {
        Key::Offset(_) => Made {
            event: quote!(_),
            body: quote_spanned!(here()=> ::idem::__private::key_of_offset(source)),
        },
        Key::Sources(sources) => match sources.as_slice() {
            [source] => one(source, maybe, model),
            several => composite(several, maybe, model),
        },
    };
    let source = match needs_message(&model.key) {
        true => quote_spanned!(here()=> source),
        false => quote!(_),
    };
    quote_spanned! {here()=>
        fn key(
            #event_name: &#event,
            #source: ::idem::__private::Msg,
        ) -> ::idem::__private::Keyed {
            #body
        }
    }
}

/// The name of the event in the key function, and the key.
struct Made {
    event: TokenStream,
    body: TokenStream,
}

/// The key of one source.
///
/// A whole expression `event.order.id` has one hygiene, that of the user's tokens: with two the
/// compiler would show the attribute in place of the field, and suggest nothing.
fn one(source: &Source, maybe: bool, model: &Model) -> Made {
    let of = quote_spanned!(at(source.span())=> ::idem::__private::Key::of);
    let part = |value| match maybe {
        true => may_be_missing(source, &value),
        false => value,
    };
    let (event, body) = match source {
        Source::Field(field) => {
            let event = Ident::new("event", field.span);
            let value = part(field_of(field, &event));
            (quote!(#event), quote_spanned!(at(field.span)=> #of(#value)))
        }
        Source::With(path) => {
            let made = made_by(path);
            let made = part(quote_spanned!(at(path.span())=> &#made));
            (quote_spanned!(here()=> event), quote_spanned!(at(path.span())=> #of(#made)))
        }
        Source::Header(name) => {
            (quote!(_), quote_spanned!(here()=> ::idem::__private::key_of_header(source, #name)))
        }
        Source::MessageKey(_) => {
            (quote!(_), quote_spanned!(here()=> ::idem::__private::key_of_message_key(source)))
        }
        Source::Content(content) => (quote!(_), content_key(content, model)),
    };
    Made { event, body }
}

/// The key of several sources.
fn composite(sources: &[Source], maybe: bool, model: &Model) -> Made {
    let fields = sources.iter().filter_map(|source| match source {
        Source::Field(field) => Some(field),
        _ => None,
    });
    let names: Vec<Ident> =
        (1..).zip(fields).map(|(n, field)| Ident::new(&format!("event{n}"), field.span)).collect();
    let mut unused = names.iter();
    let parts = sources.iter().map(|source| {
        let at = at(source.span());
        let value = match source {
            Source::Field(field) => {
                let name = unused.next().map(|name| field_of(field, name));
                quote!(#name)
            }
            Source::With(path) => {
                let made = made_by(path);
                quote_spanned!(at=> &#made)
            }
            Source::Header(name) => {
                quote_spanned!(here()=> &::idem::__private::header_part(source, #name)?)
            }
            Source::MessageKey(_) => {
                quote_spanned!(here()=> &::idem::__private::message_key_part(source)?)
            }
            Source::Content(content) => {
                let hash = content_key(content, model);
                quote_spanned!(here()=> &#hash?)
            }
        };
        match maybe && !source.needs_message() {
            true => may_be_missing(source, &value),
            false => quote_spanned!(at=> ::idem::__private::key_part(#value)),
        }
    });
    // Each field has an event of its own: its name has the field's hygiene.
    let count = names.len();
    let events = (count > 0).then(|| quote_spanned!(here()=> let [#(#names),*] = [event; #count];));
    let body = quote_spanned! {here()=>
        #events
        ::idem::__private::Key::composite(&[#(#parts),*])
    };
    let used = sources.iter().any(|it| !it.needs_message());
    let event = if used { quote_spanned!(here()=> event) } else { quote!(_) };
    Made { event, body }
}

/// A part that is missing when its value says so.
fn may_be_missing(source: &Source, value: &TokenStream) -> TokenStream {
    quote_spanned!(at(source.span())=> ::idem::__private::Maybe::of(#value).key_part()?)
}

fn field_of(field: &Field, event: &Ident) -> TokenStream {
    let path = &field.path;
    quote_spanned!(field.span=> &#event #(.#path)*)
}

fn made_by(path: &ExprPath) -> TokenStream {
    quote_spanned!(at(path.span())=> ::idem::__private::made_by(event, #path))
}

fn content_key(content: &Content, model: &Model) -> TokenStream {
    if let Some(of) = model.payload_hash() {
        let hash = Ident::new(&format!("{of}_key"), here());
        return quote_spanned!(here()=> ::idem::__private::#hash(source));
    }
    let selected = match &content.selected {
        Selected::All => quote_spanned!(here()=> ALL),
        Selected::Only { fields, optional } if optional.is_empty() => {
            quote_spanned!(here()=> only(&[#(#fields),*]))
        }
        Selected::Only { fields, optional } => {
            quote_spanned!(here()=> only(&[#(#fields),*]).optional(&[#(#optional),*]))
        }
        Selected::Except(fields) => quote_spanned!(here()=> except(&[#(#fields),*])),
    };
    quote_spanned! {here()=>
        ::idem::__private::content_key(source, ::idem::__private::Content::#selected)
    }
}

/// The hygiene of generated code, the place of the user's.
fn at(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}
