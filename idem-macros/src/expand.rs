//! The expansion: the function as it is, and beside it a type that implements the contract.
//!
//! Small on purpose: constants, a key function, a call. Work lives in `idem-runtime`. Questions to
//! the compiler are asked on the user's tokens, so that its answers are shown there.

mod key;
mod policy;
mod subscriber;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Ident, Type};

use crate::effects::UnknownEnd;
use crate::function::Function;
use crate::model::{Input, Model};

/// Writes the model down.
pub(crate) fn expand(model: &Model) -> TokenStream {
    let function = model.function.item();
    let kind = handler_type(&model.function);
    let handler = handler(model);
    let subscriber = model.topics.as_ref().map(|topics| subscriber::subscriber(model, topics));
    let (answers, direct) = (answers(model), direct(model));
    let connections = one_connection(model);
    quote!(#function #kind #handler #subscriber #answers #direct #connections)
}

/// The function's name as the name of the type. The span shows the user's token; its hygiene says
/// that no hand wrote the type, so that no lint asks for camel case.
pub(crate) fn type_name(function: &Function) -> Ident {
    let name = &function.sig.ident;
    let mut type_name = name.clone();
    type_name.set_span(Span::mixed_site().located_at(name.span()));
    type_name
}

/// The type beside the function: it has no values, only a name.
pub(crate) fn handler_type(function: &Function) -> TokenStream {
    let (attrs, vis, name) = (function.shared_attrs(), &function.vis, type_name(function));
    quote_spanned!(Span::mixed_site()=> #(#attrs)* #vis enum #name {})
}

fn handler(model: &Model) -> TokenStream {
    let Model { input: Input { event, is_batch, .. }, scope, .. } = model;
    let (cfgs, name) = (model.function.cfgs(), type_name(&model.function));
    let store = model.store.to_type();
    // An event that cannot be one is shown at its type.
    let input = input_name(*is_batch);
    let input = quote_spanned!(mixed(event)=> type Input = ::idem::__private::#input<#event>;);
    let policy = policy::policy(&model.policy, model.effects.as_ref());
    let (needs, key, handle) = (needs(model), key::key(model), handle(model));
    let probe = probe(model);
    let (source, allowed) = (key::kind(&model.key), model.allow.as_ref().map(key::allowed));
    let stores =
        model.store_result.map(|_| quote_spanned!(here()=> const STORES_RESULT: bool = true;));
    quote_spanned! {Span::mixed_site()=>
        #(#cfgs)*
        impl ::idem::__private::Handler for #name {
            type Store = #store;
            #input
            const SCOPE: ::idem::__private::Text = #scope;
            #source
            #allowed
            #policy
            #stores
            #needs
            #key
            #probe
            #handle
        }
    }
}

/// The function that finds out what became of an attempt. Its answer is asked for at its path.
fn probe(model: &Model) -> Option<TokenStream> {
    let Some(UnknownEnd::Probe(path)) = &model.effects else { return None };
    let event = &model.input.event;
    let at = here().located_at(path.span());
    let asked = quote_spanned!(at=> ::idem::__private::probed(#path(event, begun).await));
    Some(quote_spanned! {at=>
        async fn probe(
            event: &#event,
            begun: &::idem::__private::Begun,
        ) -> ::idem::__private::Asked {
            #asked
        }
    })
}

/// The name of what the handler is given, as the runtime has it.
pub(crate) fn input_name(is_batch: bool) -> Ident {
    Ident::new(if is_batch { "Many" } else { "One" }, here())
}

fn needs(model: &Model) -> TokenStream {
    let asks = model.params.iter().map(|param| {
        quote_spanned!(mixed(param)=> <#param as ::idem::__private::Param<'_, Self>>::needs(needs);)
    });
    let needs = if model.params.is_empty() { quote!(_) } else { quote_spanned!(here()=> needs) };
    quote_spanned! {here()=>
        fn needs(#needs: &mut ::idem::__private::Needs) { #(#asks)* }
    }
}

fn handle(model: &Model) -> TokenStream {
    let Model { input: Input { event, is_batch, .. }, output, .. } = model;
    let function = &model.function.sig.ident;
    let names: Vec<Ident> =
        (1..=model.params.len()).map(|n| Ident::new(&format!("param{n}"), here())).collect();
    // The words of `needs`, so that the compiler shows a mistake in them once.
    let takes = model.params.iter().zip(&names).map(|(param, name)| {
        quote_spanned! {mixed(param)=>
            let #name = <#param as ::idem::__private::Param<'_, Self>>::take(&mut call)?;
        }
    });
    let uses_call = !model.params.is_empty() || model.store_result.is_some();
    let call = if uses_call { quote_spanned!(here()=> mut call) } else { quote!(_) };
    let answer = model.store_result.map(|_| quote_spanned!(here()=> let answer = call.answer()?;));
    // The whole signature stands at the function's name: a future that is not `Send` is shown there.
    let at = type_name(&model.function).span();
    let (input, given) = (input_name(*is_batch), if *is_batch { "events" } else { "event" });
    let given = Ident::new(given, at);
    let signature = quote_spanned! {at=>
        async fn handle(
            ::idem::__private::#input(#given): ::idem::__private::#input<#event>,
            #call: ::idem::__private::Call<'_, Self>,
        ) -> ::idem::__private::Handled
    };
    let result = quote_spanned!(at=> #function(#given, #(#names),*).await);
    let finish = finish(model, output, &result);
    quote_spanned! {at=>
        #signature {
            #answer
            #(#takes)*
            #finish
        }
    }
}

/// What becomes of what the function returned. The type it returned is asked for at its own place.
fn finish(model: &Model, output: &Type, result: &TokenStream) -> TokenStream {
    let (whole, bare) = match model.store_result {
        Some(_) => ("finish_answer", "answer_of"),
        None => ("finish", "result"),
    };
    let (whole, bare) = (Ident::new(whole, here()), Ident::new(bare, here()));
    let finish = match &model.permanent {
        None => quote_spanned!(mixed(output)=> ::idem::__private::#whole::<#output>(#result)),
        // In two steps, each at its own place: a wrong function is shown at its path.
        Some(path) => {
            let result =
                quote_spanned!(mixed(output)=> ::idem::__private::#bare::<#output>(#result));
            let at = here().located_at(path.span());
            quote_spanned!(at=> ::idem::__private::finish_with(#result, #path))
        }
    };
    match model.store_result {
        Some(bytes) => quote_spanned!(here()=> answer.keep(&#finish?, #bytes)),
        None => finish,
    }
}

/// What a handler whose results are stored answers with.
fn answers(model: &Model) -> Option<TokenStream> {
    let (_, output) = (model.store_result?, &model.output);
    let (cfgs, name) = (model.function.cfgs(), type_name(&model.function));
    let answer = quote_spanned!(mixed(output)=>
        type Answer = <#output as ::idem::__private::ReturnedAnswer>::Answer;
    );
    Some(quote_spanned! {here()=>
        #(#cfgs)*
        impl ::idem::__private::Answers for #name {
            #answer
        }
    })
}

/// What makes the handler usable without Kafka.
///
/// Where the key is not in the event, or markers are packed, `process` exists all the same, with a condition that is not
/// met: so the compiler says why it cannot be called, instead of that there is no such function.
fn direct(model: &Model) -> TokenStream {
    let event = &model.input.event;
    let (vis, name) = (&model.function.vis, type_name(&model.function));
    let cfgs: Vec<_> = model.function.cfgs().collect();
    let (keyed, condition) = match key::needs_message(&model.key) || model.is_packed() {
        false => {
            let keyed = quote_spanned! {here()=>
                #(#cfgs)*
                impl ::idem::__private::KeyedByEvent for #name {}
            };
            (Some(keyed), None)
        }
        true => {
            // The lifetime puts off the question until somebody calls it.
            let condition = quote_spanned! {here()=>
                where for<'a> Self: ::idem::__private::KeyedByEvent
            };
            (None, Some(condition))
        }
    };
    let (does, outcome, by) = match model.store_result {
        None => {
            let outcome = quote_spanned!(here()=> ::idem::__private::Processed);
            (
                " Runs the handler once for the key of the event, as `idem::Processor::process` does.",
                outcome,
                "process",
            )
        }
        Some(_) => {
            let outcome = quote_spanned!(here()=> ::idem::__private::Answered<Self>);
            (
                " Runs the handler once for the key of the event, and answers with what it returned, as \
              `idem::Processor::answer` does.",
                outcome,
                "answer",
            )
        }
    };
    let by = Ident::new(by, here());
    quote_spanned! {here()=>
        #keyed
        #(#cfgs)*
        impl #name {
            #[doc = #does]
            #vis async fn process(
                store: &<Self as ::idem::__private::Handler>::Store,
                event: #event,
            ) -> #outcome
            #condition
            {
                ::idem::__private::#by::<Self>(store, event).await
            }
        }
    }
}

/// A const item that fails when two parameters are connections. Not an inline const: that one is
/// looked at by `cargo build`, but not by `cargo check`.
fn one_connection(model: &Model) -> Option<TokenStream> {
    let params = &model.params;
    let last = params.get(1..)?.last()?;
    let (cfgs, name) = (model.function.cfgs(), type_name(&model.function));
    let flags = params.iter().map(|param| {
        quote_spanned!(mixed(param)=>
            <#param as ::idem::__private::Param<'_, #name>>::IS_CONNECTION
        )
    });
    // Which one is too many only the compiler knows; the spelling is a good guess at where to point.
    let second = params
        .iter()
        .filter(|param| matches!(param, Type::Reference(it) if it.mutability.is_some()))
        .nth(1);
    let at = match second.unwrap_or(last) {
        Type::Reference(reference) => mixed(&reference.elem),
        other => mixed(other),
    };
    Some(quote_spanned! {at=>
        #(#cfgs)*
        const _: () = ::idem::__private::one_connection(&[#(#flags),*]);
    })
}

/// The hygiene of generated code.
fn here() -> Span {
    Span::mixed_site()
}

/// The hygiene of generated code, the place of the user's.
fn mixed(tokens: &Type) -> Span {
    Span::mixed_site().located_at(tokens.span())
}
