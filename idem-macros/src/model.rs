//! What a handler is, once everything was checked: what `expand.rs` writes down.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{ExprPath, LitStr, Type};

use crate::allow::Allow;
use crate::effects::UnknownEnd;
use crate::format::Format;
use crate::function::Function;
use crate::key::Key;
use crate::markers::Markers;
use crate::policy::{Isolation, MissingKey, OnFailure, PayloadCheck};
use crate::retry::Retry;
use crate::time::Time;
use crate::types::{TypeFrom, Types};
use crate::value::Store;

pub(crate) struct Model {
    pub(crate) function: Function,
    pub(crate) key: Key,
    pub(crate) allow: Option<Allow>,
    pub(crate) store: Store,
    pub(crate) topics: Option<Vec<LitStr>>,
    /// How an event is read; JSON unless it is said.
    pub(crate) format: Option<Format>,
    /// Which events of the topics it takes, and where their types are.
    pub(crate) types: Option<Types>,
    pub(crate) type_from: Option<TypeFrom>,
    pub(crate) scope: LitStr,
    pub(crate) input: Input,
    /// The types of the parameters after the event.
    pub(crate) params: Vec<Type>,
    pub(crate) output: Type,
    pub(crate) policy: Policy,
    /// The function that says of an error whether it is a permanent one.
    pub(crate) permanent: Option<ExprPath>,
    /// How many bytes of its result are stored at most, if results are.
    pub(crate) store_result: Option<usize>,
    /// What is done with an attempt whose end is not known, if its effects are outside.
    pub(crate) effects: Option<UnknownEnd>,
}

/// What the handler is given at once.
pub(crate) struct Input {
    /// The type of one event.
    pub(crate) event: Type,
    /// Where an event may be missing, in an `Option<..>`: the type of one that is there.
    pub(crate) inside: Option<Type>,
    /// Whether it is given all new events of a batch.
    pub(crate) is_batch: bool,
}

impl Model {
    /// Whether its markers are packed, which only its lanes know.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.policy.markers, Some(Markers::Packed(_)))
    }

    /// Whether an event is a CloudEvent.
    pub(crate) fn is_cloud_event(&self) -> bool {
        self.format.as_ref().is_some_and(Format::is_cloud_event)
    }

    /// The function that hashes what an event of another format than JSON says.
    pub(crate) fn payload_hash(&self) -> Option<&'static str> {
        match self.is_json() {
            true => None,
            false if self.is_cloud_event() => Some("cloud_event"),
            false => Some("payload"),
        }
    }

    /// Whether the payload is JSON, whose content has one form to compare.
    pub(crate) fn is_json(&self) -> bool {
        self.format.as_ref().is_none_or(Format::is_json)
    }
}

impl Input {
    /// Whether a message without a payload is an event, too.
    pub(crate) fn is_optional(&self) -> bool {
        self.inside.is_some()
    }

    /// What a payload is decoded into.
    pub(crate) fn payload(&self) -> &Type {
        self.inside.as_ref().unwrap_or(&self.event)
    }
}

/// What is said of failure, time, order and markers.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Policy {
    pub(crate) retry: Option<Retry>,
    pub(crate) on_failure: Option<OnFailure>,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) timeout: Option<Time>,
    pub(crate) slices: Option<u16>,
    pub(crate) missing_key: Option<MissingKey>,
    pub(crate) payload_check: Option<PayloadCheck>,
    pub(crate) markers: Option<Markers>,
}

/// What is known of a handler that has mistakes.
pub(crate) struct Rejected {
    pub(crate) errors: crate::errors::Errors,
    pub(crate) function: Function,
    pub(crate) store: Option<Store>,
    pub(crate) input: Option<Input>,
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
