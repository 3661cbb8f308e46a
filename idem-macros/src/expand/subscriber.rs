//! What makes a handler readable from Kafka: its topics, its types, how a message is decoded.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::LitStr;
use syn::spanned::Spanned as _;

use super::{here, type_name};
use crate::model::Model;
use crate::types::{TypeFrom, TypePlace, Types};

pub(super) fn subscriber(model: &Model, topics: &[LitStr]) -> TokenStream {
    let event = &model.input.event;
    let (cfgs, name) = (model.function.cfgs(), type_name(&model.function));
    let types = model.types.as_ref().map(types);
    let type_from = model.type_from.as_ref().map(type_from);
    let (body, by_type) = match &model.types {
        Some(Types::Of(path)) => {
            let at = here().located_at(path.span());
            // The type that is named and the one that is taken are the same, or it does not compile.
            let by_type = quote_spanned! {at=>
                fn decode_as(
                    event: &::idem::__private::Event,
                    event_type: &::idem::__private::Str,
                ) -> ::idem::__private::Decoded<Self> {
                    <#path as ::idem::__private::EventTypes>::decode(event, event_type)
                }
            };
            (quote_spanned!(here()=> ::idem::__private::without_type(event)), Some(by_type))
        }
        _ => (quote_spanned!(here()=> ::idem::__private::decode_json::<#event>(event)), None),
    };
    quote_spanned! {here()=>
        #(#cfgs)*
        impl ::idem::__private::Subscriber for #name {
            const TOPICS: ::idem::__private::Texts = &[#(#topics),*];
            #types
            #type_from
            fn decode(
                event: &::idem::__private::Event,
            ) -> ::idem::__private::Decoded<Self> {
                #body
            }
            #by_type
        }
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
    quote_spanned! {here()=>
        fn event_type() -> ::idem::__private::TypeFrom {
            ::idem::__private::type_from(::idem::__private::EventType::#place)
        }
    }
}
