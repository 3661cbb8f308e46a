//! What is written when there are mistakes: the function, its type and stubs of its impls beside
//! the errors, so that no second error follows where the handler is used.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};

use crate::expand::{handler_type, input_name, type_name};
use crate::model::{Input, Rejected};

/// Writes the mistakes down, and something that compiles otherwise.
pub(crate) fn fallback(rejected: Rejected) -> TokenStream {
    let Rejected { mut errors, function, store, input, associated } = rejected;
    let item = function.item();
    if associated {
        let errors = errors.into_items();
        return quote!(#item #errors);
    }
    let (kind, name, vis) = (handler_type(&function), type_name(&function), &function.vis);
    let cfgs: Vec<_> = function.cfgs().collect();
    let known = store.is_some() && input.is_some();
    // Where the store is not known, one of the mistakes is its type: of such a type the compiler asks
    // nothing more.
    let store = match store {
        Some(store) => Some(store.to_type()),
        None => errors.take_as_type(),
    };
    let errors = errors.into_items();
    let input_of = input_name(input.as_ref().is_some_and(|input| input.is_batch));
    let event = input.map_or_else(|| quote!(()), |Input { event, .. }| quote!(#event));
    let arguments = if known {
        quote!((_: &<Self as ::idem::__private::Handler>::Store, _: #event))
    } else {
        quote!(<S, E>(_: &S, _: E))
    };
    quote_spanned! {Span::mixed_site()=>
        #item
        #kind
        #errors
        #(#cfgs)*
        impl ::idem::__private::Handler for #name {
            type Store = #store;
            type Input = ::idem::__private::#input_of<#event>;
            const SCOPE: ::idem::__private::Text = "";
            fn needs(_: &mut ::idem::__private::Needs) {}
            fn key(
                _: &#event,
                _: ::idem::__private::Msg,
            ) -> ::idem::__private::Keyed {
                loop {}
            }
            async fn handle(
                _: ::idem::__private::#input_of<#event>,
                _: ::idem::__private::Call<'_, Self>,
            ) -> ::idem::__private::Handled {
                loop {}
            }
        }
        #(#cfgs)*
        impl ::idem::__private::Subscriber for #name {
            const TOPICS: ::idem::__private::Texts = &[];
            fn decode(_: ::idem::__private::Encoded) -> ::idem::__private::Decoded<Self> {
                loop {}
            }
        }
        #(#cfgs)*
        impl ::idem::__private::KeyedByEvent for #name {}
        #(#cfgs)*
        impl #name {
            #vis async fn process #arguments -> ::idem::__private::Processed {
                loop {}
            }
        }
    }
}
