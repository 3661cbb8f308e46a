//! The mistakes found so far: collected, so that all of them are shown at once.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};

/// Mistakes, in the order in which they were found.
#[derive(Default)]
pub(crate) struct Errors(Vec<syn::Error>);

impl Errors {
    /// A mistake at this place.
    pub(crate) fn at(&mut self, span: Span, message: impl Into<String>) {
        self.0.push(syn::Error::new(span, message.into()));
    }

    /// A mistake on these tokens.
    pub(crate) fn on(&mut self, tokens: impl ToTokens, message: impl Into<String>) {
        self.0.push(syn::Error::new_spanned(tokens, message.into()));
    }

    /// A mistake that a parser reported.
    pub(crate) fn push(&mut self, error: syn::Error) {
        self.0.push(error);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the last mistake out, as a type: the compiler reports it, and asks nothing more of what
    /// has that type. (An error in the place of a type becomes `()`, which has no such effect; in the
    /// length of an array it stays an error.)
    pub(crate) fn take_as_type(&mut self) -> Option<TokenStream> {
        self.0.pop().map(|error| {
            let (span, message) = (error.span(), error.to_string());
            quote_spanned!(span=> [(); ::core::compile_error! { #message }])
        })
    }

    /// The mistakes as items.
    pub(crate) fn into_items(self) -> TokenStream {
        self.0.iter().map(syn::Error::to_compile_error).collect()
    }
}
