//! What makes a handler readable from Kafka: its topics, its types, how a message is decoded.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{ExprPath, Ident, LitStr};

use super::{here, mixed, type_name};
use crate::format::Format;
use crate::model::Model;
use crate::policy::MissingKey;
use crate::types::{TypeFrom, TypePlace, Types};

pub(super) fn subscriber(model: &Model, topics: &[LitStr]) -> TokenStream {
    let (cfgs, name) = (model.function.cfgs(), type_name(&model.function));
    let types = model.types.as_ref().map(types);
    let type_from = match &model.type_from {
        Some(from) => Some(type_from(from)),
        None => (model.types.is_some() && model.is_cloud_event())
            .then(|| event_type(&quote!(cloud_event()))),
    };
    // Only who asks for a type asks for a field.
    let fieldless = model.types.is_some()
        && model.format.as_ref().is_some_and(|format| !format.has_json_fields());
    let has_fields = fieldless
        .then(|| quote_spanned!(here()=> const HAS_FIELDS: ::idem::__private::Flag = false;));
    let schema = match &model.format {
        Some(Format::Known { name: "avro", .. }) => Some(quote_spanned! {here()=>
            const SCHEMA: ::idem::__private::SchemaId = ::idem::__private::formats::avro_schema!();
        }),
        _ => None,
    };
    let hashed = model.policy.missing_key == Some(MissingKey::CONTENT_HASH)
        || model.policy.payload_check.is_some();
    let content = model.payload_hash().filter(|_| hashed).map(|of| {
        let hash = Ident::new(&format!("{of}_key"), here());
        quote_spanned! {here()=>
            fn content_key(event: &::idem::__private::Event) -> ::idem::__private::Keyed {
                ::idem::__private::#hash(::idem::__private::msg(event))
            }
        }
    });
    let event = Ident::new("event", here());
    let (decode, by_type) = match &model.types {
        Some(Types::Of(path)) => {
            let without = quote_spanned!(here()=> ::idem::__private::without_type(#event));
            (without, Some(by_type(model, path, &event)))
        }
        _ => (decoded(model, &event), None),
    };
    let decode = optional(model, &event, decode);
    quote_spanned! {here()=>
        #(#cfgs)*
        impl ::idem::__private::Subscriber for #name {
            const TOPICS: ::idem::__private::Texts = &[#(#topics),*];
            #schema
            #types
            #has_fields
            #type_from
            fn decode(event: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
                #decode
            }
            #by_type
            #content
        }
    }
}

/// The variant of the event's type.
fn by_type(model: &Model, path: &ExprPath, event: &Ident) -> TokenStream {
    let at = here().located_at(path.span());
    // The type that is named and the one that is taken are the same, or it does not compile.
    let decode = quote_spanned! {at=>
        <#path as ::idem::__private::EventTypes>::decode(#event, event_type)
    };
    let decode = optional(model, event, decode);
    quote_spanned! {at=>
        fn decode_as(
            #event: ::idem::__private::Encoded,
            event_type: &::idem::__private::Str,
        ) -> ::idem::__private::Decoded<Self> {
            #decode
        }
    }
}

/// The event, read in the handler's format.
fn decoded(model: &Model, event: &Ident) -> TokenStream {
    let payload = model.input.payload();
    match &model.format {
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
    }
}

/// Of a message that may be without a payload: where it has none, there is nothing to decode.
fn optional(model: &Model, event: &Ident, decode: TokenStream) -> TokenStream {
    match model.input.is_optional() {
        true => quote_spanned!(here()=> ::idem::__private::optional(#event, |#event| #decode)),
        false => decode,
    }
}

fn types(types: &Types) -> TokenStream {
    match types {
        Types::Patterns(patterns) => quote_spanned! {here()=>
            const TYPES: ::idem::__private::Types = ::idem::__private::types(&[#(#patterns),*]);
        },
        Types::Of(path) => {
            let at = here().located_at(path.span());
            quote_spanned! {at=>
                const TYPES: ::idem::__private::Types =
                    ::idem::__private::types(<#path as ::idem::__private::EventTypes>::TYPES);
                const BY_TYPE: ::idem::__private::Flag = true;
            }
        }
    }
}

fn type_from(from: &TypeFrom) -> TokenStream {
    let place = match &from.place {
        TypePlace::Header(name) => quote!(header(#name)),
        TypePlace::Field(path) => quote!(field(#path)),
        TypePlace::Topic => quote!(topic()),
    };
    event_type(&place)
}

/// The function that says where the type is.
fn event_type(place: &TokenStream) -> TokenStream {
    quote_spanned! {here()=>
        fn event_type() -> ::idem::__private::TypeFrom {
            ::idem::__private::type_from(::idem::__private::EventType::#place)
        }
    }
}
