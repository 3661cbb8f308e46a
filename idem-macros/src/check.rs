//! The rules that need more than one value, or the function. Everything is checked before the first
//! mistake is shown.
//!
//! Not here: what the compiler explains better than a macro can: whether the event has the field,
//! whether a type is a key, a connection, an error. The expansion asks those questions on the user's
//! own tokens.

use quote::ToTokens;
use syn::ext::IdentExt as _;
use syn::visit::{self, Visit};
use syn::{FnArg, GenericArgument, LitStr, PathArguments, ReturnType, Safety, Type};

use crate::attr::{Attr, Word};
use crate::errors::Errors;
use crate::function::{Function, is_idempotent};
use crate::key::Key;
use crate::model::{Model, Rejected};
use crate::value::{check_scope, ungroup_type};

/// Makes a model of the attribute and the function, or says what is wrong with them.
pub(crate) fn check(
    attr: Attr,
    function: Function,
    mut errors: Errors,
) -> Result<Model, Box<Rejected>> {
    words(&attr, &mut errors);
    let associated = refuse_associated(&function, &mut errors);
    refuse_qualifiers(&function, &mut errors);
    let event = event(&function, &mut errors);
    let params = params(&function, &mut errors);
    let output = output(&function, &mut errors);
    let scope = scope(&attr, &function, &mut errors);

    let Attr { key, store, topics, .. } = attr;
    match (key, store, event, output) {
        (Word::Given(key), Word::Given(store), Some(event), Some(output)) if errors.len() == 0 => {
            let topics = topics.given();
            Ok(Model { function, key, store, topics, scope, event, params, output })
        }
        (_, store, event, _) => {
            let store = store.given();
            Err(Box::new(Rejected { errors, function, store, event, associated }))
        }
    }
}

/// The rules of the words.
fn words(attr: &Attr, errors: &mut Errors) {
    let here = proc_macro2::Span::call_site();
    if matches!(attr.key, Word::Absent) {
        errors.at(
            here,
            "the key is missing: name the field of the event that makes two deliveries the same, \
             `key = \"event_id\"`",
        );
    }
    if matches!(attr.store, Word::Absent) {
        errors.at(
            here,
            "the store is missing: name the database that the handler writes to, \
             `store = \"postgres\"`",
        );
    }
    if matches!(attr.topics, Word::Absent) {
        match &attr.key {
            Word::Given(Key::Header(name)) => errors.on(
                name,
                "a header is a part of a Kafka message: add `topic = \"..\"`, or take the key from \
                 a field of the event",
            ),
            Word::Given(Key::Offset(span)) => errors.at(
                *span,
                "`offset` is the place of a Kafka message: add `topic = \"..\"`, or take the key \
                 from a field of the event (a field called `offset` is `key = \"offset\"`)",
            ),
            _ => {}
        }
    }
}

/// The scope: the function's name, unless named.
fn scope(attr: &Attr, function: &Function, errors: &mut Errors) -> LitStr {
    if let Word::Given(scope) = &attr.scope {
        return scope.clone();
    }
    let name = &function.sig.ident;
    let text = name.unraw().to_string();
    if matches!(attr.scope, Word::Absent) {
        check_scope(&text, name.span(), errors);
    }
    LitStr::new(&text, name.span())
}

/// A type cannot stand beside a method. Without `self` or `Self` one cannot be told from a function.
fn refuse_associated(function: &Function, errors: &mut Errors) -> bool {
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

fn refuse_qualifiers(function: &Function, errors: &mut Errors) {
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

/// The type of the event: the first parameter.
fn event(function: &Function, errors: &mut Errors) -> Option<Type> {
    let before = errors.len();
    let event = match function.sig.inputs.first() {
        Some(FnArg::Typed(event)) => ungroup_type((*event.ty).clone()),
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
    match &event {
        Type::Reference(reference) => errors.on(
            reference,
            "the first parameter is the event, owned: take it by value, and put connections and \
             `&Context` after it",
        ),
        Type::Path(path) if path.qself.is_none() && is_vec(path) => errors.on(
            path,
            "a handler of batches (`Vec<E>`) is not supported yet: take one event, whose effects \
             idem already commits together with its neighbours'",
        ),
        other => refuse_borrowed(other, errors),
    }
    (errors.len() == before).then_some(event)
}

fn is_vec(path: &syn::TypePath) -> bool {
    path.path.segments.last().is_some_and(|last| {
        last.ident == "Vec"
            && matches!(&last.arguments, PathArguments::AngleBracketed(args)
                if args.args.iter().any(|arg| matches!(arg, GenericArgument::Type(_))))
    })
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
fn params(function: &Function, errors: &mut Errors) -> Vec<Type> {
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
fn output(function: &Function, errors: &mut Errors) -> Option<Type> {
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
