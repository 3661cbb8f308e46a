//! `#[derive(EventTypes)]`: an enum with a variant for each type of event.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Attribute, Data, DeriveInput, Fields, Ident, LitStr, Token, Type, Variant};

use crate::errors::Errors;

/// A variant, the types it stands for, and what it holds.
struct Case {
    name: Ident,
    types: Vec<LitStr>,
    payload: Type,
}

pub(crate) fn derive(item: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(item) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Errors::default();
    let cases = cases(&input, &mut errors);
    let failed = errors.len() > 0;
    let errors = errors.into_items();
    let (name, types) = (&input.ident, cases.iter().flat_map(|case| &case.types));
    let (generics, params, condition) = input.generics.split_for_impl();
    let here = Span::mixed_site();
    let arms = cases.iter().filter(|case| !case.types.is_empty()).map(|case| {
        let Case { name: variant, types, payload } = case;
        let at = here.located_at(payload.span());
        let decoded = quote_spanned!(at=> ::idem::__private::decode_json::<#payload>(event));
        quote_spanned!(here=> #(#types)|* => #decoded.map(#name::#variant),)
    });
    // Beside mistakes it is there all the same, so that no second error follows where it is used.
    let body = match failed {
        true => quote_spanned!(here=> loop {}),
        false => quote_spanned! {here=>
            match event_type {
                #(#arms)*
                other => ::idem::__private::no_variant(other),
            }
        },
    };
    let types: Vec<_> = if failed { Vec::new() } else { types.collect() };
    quote_spanned! {here=>
        #errors
        impl #generics ::idem::__private::EventTypes for #name #params #condition {
            const TYPES: ::idem::__private::Texts = &[#(#types),*];
            fn decode(
                event: ::idem::__private::Encoded,
                event_type: &::idem::__private::Str,
            ) -> ::idem::__private::DecodedAs<Self> {
                #body
            }
        }
    }
}

fn cases(input: &DeriveInput, errors: &mut Errors) -> Vec<Case> {
    let Data::Enum(data) = &input.data else {
        errors.at(
            input.ident.span(),
            "`EventTypes` is for an enum with a variant for each type of event; a handler takes a \
             struct as it is",
        );
        return Vec::new();
    };
    if data.variants.is_empty() {
        errors.at(
            input.ident.span(),
            "the enum has no variant: give it one for each type of event, \
             `#[event_type(\"order.placed\")] Placed(OrderPlaced)`",
        );
    }
    for attr in input.attrs.iter().filter(|attr| attr.path().is_ident("event_type")) {
        errors.on(attr, "`event_type` stands on the variants, not on the enum");
    }
    let mut seen: Vec<(String, Ident)> = Vec::new();
    let mut cases = Vec::new();
    for variant in &data.variants {
        let types = types(variant, errors);
        for text in &types {
            let value = text.value();
            if let Some((_, other)) = seen.iter().find(|(it, _)| *it == value) {
                errors.on(text, format!("`{value}` is the type of the variant `{other}` already"));
            }
            seen.push((value, variant.ident.clone()));
        }
        if let Some(payload) = payload(variant, errors) {
            cases.push(Case { name: variant.ident.clone(), types, payload });
        }
    }
    cases
}

/// The types in `#[event_type("order.placed")]`.
fn types(variant: &Variant, errors: &mut Errors) -> Vec<LitStr> {
    const FORM: &str =
        "a variant names its event type in quotes: `#[event_type(\"order.placed\")]`";
    let attrs: Vec<&Attribute> =
        variant.attrs.iter().filter(|attr| attr.path().is_ident("event_type")).collect();
    match attrs[..] {
        [] => {
            errors.at(
                variant.ident.span(),
                format!(
                    "the variant `{}` has no event type: add `#[event_type(\"..\")]` before it",
                    variant.ident
                ),
            );
            return Vec::new();
        }
        [_] => {}
        [_, second, ..] => {
            errors.on(
                second,
                "a variant has one `event_type`: put several types into it, \
                 `#[event_type(\"order.placed\", \"order.placed.v2\")]`",
            );
        }
    }
    let list = attrs[0].parse_args_with(Punctuated::<LitStr, Token![,]>::parse_terminated);
    let types: Vec<LitStr> = match list {
        Ok(list) if !list.is_empty() => list.into_iter().collect(),
        _ => {
            errors.on(attrs[0], FORM);
            return Vec::new();
        }
    };
    for text in &types {
        let value = text.value();
        if value.is_empty() {
            errors.on(text, "an event type cannot be empty");
        } else if value.split('.').any(str::is_empty) {
            errors.on(
                text,
                format!("`{value}` has an empty segment: between two dots stands a word"),
            );
        } else if value.contains(['*', '#']) {
            errors.on(
                text,
                "a variant stands for a type and not for a pattern of types: which of them it is \
                 would be forgotten",
            );
        }
    }
    types
}

/// What the variant holds.
fn payload(variant: &Variant, errors: &mut Errors) -> Option<Type> {
    match &variant.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
            fields.unnamed.first().map(|field| field.ty.clone())
        }
        fields => {
            let name = &variant.ident;
            let unread = match fields {
                Fields::Unit => {
                    format!("; where nothing is read of it, `{name}(serde::de::IgnoredAny)`")
                }
                _ => String::new(),
            };
            errors.at(
                name.span(),
                format!(
                    "the variant `{name}` holds the payload of its event, and nothing else: \
                     `{name}(Order{name})`{unread}"
                ),
            );
            None
        }
    }
}
