//! What a handler is, once everything was checked: what `expand.rs` writes down.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{LitStr, Type};

use crate::function::Function;
use crate::key::Key;
use crate::value::Store;

pub(crate) struct Model {
    pub(crate) function: Function,
    pub(crate) key: Key,
    pub(crate) store: Store,
    pub(crate) topics: Option<Vec<LitStr>>,
    pub(crate) scope: LitStr,
    pub(crate) event: Type,
    /// The types of the parameters after the event.
    pub(crate) params: Vec<Type>,
    pub(crate) output: Type,
}

/// What is known of a handler that has mistakes.
pub(crate) struct Rejected {
    pub(crate) errors: crate::errors::Errors,
    pub(crate) function: Function,
    pub(crate) store: Option<Store>,
    pub(crate) event: Option<Type>,
    /// Whether it stands in an `impl` or a `trait`, where no type can stand beside it.
    pub(crate) associated: bool,
}

impl Store {
    /// The store as a type.
    pub(crate) fn to_type(&self) -> TokenStream {
        match self {
            // A macro, because it can be an error when the facade's feature is off.
            Self::Known { name, span } => {
                let name = syn::Ident::new(name, *span);
                quote_spanned!(*span=> ::idem::__private::stores::#name!())
            }
            Self::Type(path) => quote!(#path),
        }
    }
}
