//! What makes a handler readable from Kafka: its topics, and how an event is decoded.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Ident, LitStr};

use super::{here, mixed, type_name};
use crate::format::Format;
use crate::model::Model;
use crate::policy::MissingKey;

pub(super) fn subscriber(model: &Model, topics: &[LitStr]) -> TokenStream {
    let (cfgs, name) = (model.function.cfgs(), type_name(&model.function));
    let schema = match &model.format {
        Some(Format::Known { name: "avro", .. }) => Some(quote_spanned! {here()=>
            const SCHEMA: ::idem::__private::SchemaId = ::idem::__private::formats::avro_schema!();
        }),
        _ => None,
    };
    let hashed = model.policy.missing_key == Some(MissingKey::CONTENT_HASH)
        || model.policy.payload_check.is_some();
    let content = (hashed && !model.is_json()).then(|| {
        quote_spanned! {here()=>
            fn content_key(event: &::idem::__private::Event) -> ::idem::__private::Keyed {
                ::idem::__private::Key::payload(event)
            }
        }
    });
    let decode = decode(model);
    quote_spanned! {here()=>
        #(#cfgs)*
        impl ::idem::__private::Subscriber for #name {
            const TOPICS: ::idem::__private::Texts = &[#(#topics),*];
            #schema
            fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
                #decode
            }
            #content
        }
    }
}

fn decode(model: &Model) -> TokenStream {
    let input = &model.input;
    let payload = input.payload();
    let event = Ident::new("event", here());
    let decode = match &model.format {
        None | Some(Format::Known { name: "json", .. }) => {
            quote_spanned!(here()=> ::idem::__private::decode_json::<#payload>(#event))
        }
        // Macros, because they can be an error when the facade's feature is off.
        Some(Format::Known { name, span }) => {
            let name = Ident::new(name, *span);
            quote_spanned!(*span=> ::idem::__private::formats::#name!(#payload, #event))
        }
        Some(Format::Framed { place, span }) => {
            let name = Ident::new("protobuf_registry", *span);
            quote_spanned! {*span=>
                ::idem::__private::formats::#name!(#payload, #event, [#(#place),*])
            }
        }
        Some(Format::Type(path)) => {
            // The mistake is shown at the format: that is what is asked whether it can.
            let at = mixed(path);
            quote_spanned!(at=> ::idem::__private::decode_with::<#path, #payload>(#event))
        }
    };
    match input.is_optional() {
        true => quote_spanned!(here()=> ::idem::__private::optional(#event, |#event| #decode)),
        false => quote!(#decode),
    }
}
