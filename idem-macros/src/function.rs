//! The annotated function: its signature as a tree, its body as tokens that nobody looks at.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Signature, Visibility};

pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    body: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self {
            attrs: input.call(Attribute::parse_outer)?,
            vis: input.parse()?,
            sig: input.parse()?,
            body: input.parse()?,
        })
    }
}

/// Reads the function. Of an item that is none, the answer is the item with the mistake beside it.
pub(crate) fn read(item: TokenStream) -> Result<Function, TokenStream> {
    syn::parse2(item.clone()).map_err(|error| {
        let error = match syn::parse2::<syn::Item>(item.clone()) {
            Ok(syn::Item::Fn(_) | syn::Item::Verbatim(_)) | Err(_) => error,
            Ok(other) => syn::Error::new_spanned(
                other,
                "`#[idempotent]` goes on an async function: `async fn bill(event: OrderPlaced, ..)`",
            ),
        };
        let error = error.to_compile_error();
        quote!(#item #error)
    })
}

impl Function {
    /// Whether it has a body: in a trait it may have none.
    pub(crate) fn has_body(&self) -> bool {
        !self.body.to_string().starts_with(';')
    }

    /// The function as it was written, without a second `#[idempotent]`.
    pub(crate) fn item(&self) -> TokenStream {
        let attrs = self.attrs.iter().filter(|attr| !is_idempotent(attr));
        let Self { vis, sig, body, .. } = self;
        quote!(#(#attrs)* #vis #sig #body)
    }

    /// What the type beside the function shares with it: documentation and conditions.
    pub(crate) fn shared_attrs(&self) -> impl Iterator<Item = &Attribute> {
        self.attrs.iter().filter(|attr| attr.path().is_ident("doc") || attr.path().is_ident("cfg"))
    }

    /// The conditions, for every other item.
    pub(crate) fn cfgs(&self) -> impl Iterator<Item = &Attribute> {
        self.attrs.iter().filter(|attr| attr.path().is_ident("cfg"))
    }
}

/// Whether it is this very attribute, under any path.
pub(crate) fn is_idempotent(attr: &Attribute) -> bool {
    attr.path().segments.last().is_some_and(|last| last.ident == "idempotent")
}
