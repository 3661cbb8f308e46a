//! The rules of the function: what a handler's signature can be.
//!
//! Not here: what the compiler explains better than a macro can: whether the event has the field,
//! whether a type is a key, a connection, an error. The expansion asks those questions on the user's
//! own tokens.

use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{FnArg, GenericArgument, PathArguments, ReturnType, Safety, Type, TypePath};

use crate::errors::Errors;
use crate::forms::ungroup_type;
use crate::function::{Function, is_idempotent};
use crate::model::Input;

/// A type cannot stand beside a method. Without `self` or `Self` one cannot be told from a function.
pub(crate) fn refuse_associated(function: &Function, errors: &mut Errors) -> bool {
    const MESSAGE: &str = "a handler is a free function: move it out of the `impl` or `trait`, and \
                           share values with `State<T>`";
    struct FindSelf<'a>(Option<&'a syn::Ident>);
    impl<'ast> Visit<'ast> for FindSelf<'ast> {
        fn visit_ident(&mut self, ident: &'ast syn::Ident) {
            if ident == "Self" && self.0.is_none() {
                self.0 = Some(ident);
            }
        }
    }
    let mut find = FindSelf(None);
    find.visit_signature(&function.sig);
    match (function.sig.receiver(), find.0) {
        (Some(receiver), _) => errors.on(receiver, MESSAGE),
        (None, Some(ident)) => errors.on(ident, MESSAGE),
        (None, None) => {
            if !function.has_body() {
                errors.on(&function.sig.ident, "a handler has a body");
                return true;
            }
            return false;
        }
    }
    true
}

pub(crate) fn refuse_qualifiers(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    if let Some(again) = function.attrs.iter().find(|attr| is_idempotent(attr)) {
        errors.on(
            again,
            "`#[idempotent]` is here twice: one function is one handler; for a second scope or \
             store write a second function that calls the first",
        );
    }
    if sig.asyncness.is_none() {
        errors.on(sig.fn_token, format!("a handler is async: write `async fn {}`", sig.ident));
    }
    if let Some(constness) = &sig.constness {
        errors.on(constness, "a handler cannot be `const`");
    }
    if let Safety::Safe(_) | Safety::Unsafe(_) = &sig.safety {
        errors.on(
            &sig.safety,
            "a handler cannot be `unsafe`: the runtime could not promise what it asks for",
        );
    }
    if let Some(abi) = &sig.abi {
        errors.on(abi, "a handler is a Rust function: remove the `extern`");
    }
    if let Some(variadic) = &sig.variadic {
        errors.on(variadic, "a handler has a fixed number of parameters");
    }
    if !sig.generics.params.is_empty() {
        errors.on(
            &sig.generics.params,
            "a handler cannot be generic: its scope is the memory of one function; write the types \
             out, and call a generic function from it",
        );
    } else if let Some(clause) = &sig.generics.where_clause {
        errors.on(clause, "a handler cannot be generic: remove the `where`");
    }
}

/// What the handler is given: the first parameter.
pub(crate) fn input(function: &Function, errors: &mut Errors) -> Option<Input> {
    let before = errors.len();
    let first = match function.sig.inputs.first() {
        Some(FnArg::Typed(first)) => ungroup_type((*first.ty).clone()),
        Some(FnArg::Receiver(_)) => return None,
        None => {
            errors.on(
                &function.sig.ident,
                "a handler has an event: make it the first parameter, \
                 `(event: OrderPlaced, ..)`",
            );
            return None;
        }
    };
    let (event, is_batch) = match batch_of(&first) {
        Some(event) => (ungroup_type(event.clone()), true),
        None => (first, false),
    };
    let inside = inside_of(&event, OPTIONS).map(|inside| ungroup_type(inside.clone()));
    let input = Input { event, inside, is_batch };
    match &input.event {
        Type::Reference(reference) if input.is_batch => {
            errors.on(reference, "events are owned: take them by value, `Vec<OrderPlaced>`");
        }
        Type::Reference(reference) if is_slice(&reference.elem) => errors.on(
            reference,
            "the events of a batch are owned: take them by value, `Vec<OrderPlaced>`",
        ),
        Type::Reference(reference) => errors.on(
            reference,
            "the first parameter is the event, owned: take it by value, and put connections and \
             `&Context` after it",
        ),
        other => refuse_borrowed(other, errors),
    }
    (errors.len() == before).then_some(input)
}

const VECTORS: &[&str] = &["Vec", "std::vec::Vec", "alloc::vec::Vec"];
const OPTIONS: &[&str] = &["Option", "std::option::Option", "core::option::Option"];

/// The `E` of a `Vec<E>`.
fn batch_of(first: &Type) -> Option<&Type> {
    inside_of(first, VECTORS)
}

/// The `E` of a type that is spelt in one of these ways: by nothing else can it be told.
fn inside_of<'a>(outer: &'a Type, spelt: &[&str]) -> Option<&'a Type> {
    let Type::Path(TypePath { qself: None, path, .. }) = outer else { return None };
    let names: Vec<String> = path.segments.iter().map(|it| it.ident.to_string()).collect();
    if !spelt.contains(&names.join("::").as_str()) {
        return None;
    }
    match &path.segments.last()?.arguments {
        PathArguments::AngleBracketed(args) if args.args.len() == 1 => match args.args.first()? {
            GenericArgument::Type(event) => Some(event),
            _ => None,
        },
        _ => None,
    }
}

fn is_slice(ty: &Type) -> bool {
    matches!(ty, Type::Slice(_)) || batch_of(ty).is_some()
}

/// An event outlives the message it was read from, so that it can be tried again.
fn refuse_borrowed(event: &Type, errors: &mut Errors) {
    struct Borrowed<'a>(&'a mut Errors);
    const MESSAGE: &str = "an event owns what it holds, because it outlives the message it was \
                           read from: use `String`, `Vec<u8>` or `Bytes` in place of a borrow";
    impl<'ast> Visit<'ast> for Borrowed<'_> {
        fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
            if lifetime.ident != "static" {
                self.0.on(lifetime, MESSAGE);
            }
        }

        fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
            match &reference.lifetime {
                Some(lifetime) if lifetime.ident == "static" => {
                    visit::visit_type_reference(self, reference);
                }
                _ => self.0.on(reference, MESSAGE),
            }
        }

        fn visit_type_impl_trait(&mut self, it: &'ast syn::TypeImplTrait) {
            refuse_impl_trait(it, self.0);
        }
    }
    Borrowed(errors).visit_type(event);
}

/// The types of the parameters after the event. What they can be is a matter of traits.
pub(crate) fn params(function: &Function, errors: &mut Errors) -> Vec<Type> {
    struct ImplTrait<'a>(&'a mut Errors);
    impl<'ast> Visit<'ast> for ImplTrait<'_> {
        fn visit_type_impl_trait(&mut self, it: &'ast syn::TypeImplTrait) {
            refuse_impl_trait(it, self.0);
        }
    }
    let mut params = Vec::new();
    for (i, param) in function.sig.inputs.iter().enumerate() {
        let FnArg::Typed(param) = param else { continue };
        for attr in param.attrs.iter().filter(|attr| attr.path().is_ident("cfg")) {
            errors.on(attr, "a parameter of a handler cannot be conditional: write two handlers");
        }
        if i > 0 {
            ImplTrait(errors).visit_type(&param.ty);
            params.push(ungroup_type((*param.ty).clone()));
        }
    }
    params
}

fn refuse_impl_trait(tokens: impl ToTokens, errors: &mut Errors) {
    errors.on(tokens, "a handler cannot be generic: write the type in place of `impl`");
}

/// The return type, or `_` where it cannot be named.
pub(crate) fn output(function: &Function, errors: &mut Errors) -> Option<Type> {
    match &function.sig.output {
        ReturnType::Type(_, output) => {
            struct Unnamed(bool);
            impl<'ast> Visit<'ast> for Unnamed {
                fn visit_type_impl_trait(&mut self, _: &'ast syn::TypeImplTrait) {
                    self.0 = true;
                }
            }
            let mut unnamed = Unnamed(false);
            unnamed.visit_type(output);
            Some(if unnamed.0 { syn::parse_quote!(_) } else { (**output).clone() })
        }
        ReturnType::Default => {
            errors.on(
                &function.sig.ident,
                "a handler says whether it succeeded: add `-> Result<(), YourError>`",
            );
            None
        }
    }
}
