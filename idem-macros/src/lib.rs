//! `#[idempotent]`, the attribute of idem, and `#[derive(EventTypes)]`, which is `event_types.rs`.
//!
//! Depend on `idem-kafka`, which re-exports it: what it writes names only `::idem::__private`.
//!
//! One file for each stage: the words are read (`attr.rs`, and a file for each kind of value), the
//! function is read (`function.rs`), both are checked (`check.rs`, `signature.rs`) and become a model
//! (`model.rs`), which is written down (`expand.rs`), or, with mistakes, something that causes no
//! others (`fallback.rs`).

mod allow;
mod attr;
mod check;
mod effects;
mod errors;
mod event_types;
mod expand;
mod fallback;
mod format;
mod forms;
mod function;
mod key;
mod lint;
mod markers;
mod model;
mod nearest;
mod policy;
mod retry;
mod signature;
#[cfg(test)]
mod snapshots;
mod time;
mod types;
mod value;
mod words;

use proc_macro2::TokenStream;

/// Makes an `async fn` a handler whose effects happen exactly once for each key.
#[proc_macro_attribute]
pub fn idempotent(
    words: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    idempotent_fn(words.into(), item.into()).into()
}

/// Makes an enum with a variant for each type of event something that a handler can take.
#[proc_macro_derive(EventTypes, attributes(event_type))]
pub fn event_types(item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    event_types::derive(item.into()).into()
}

fn idempotent_fn(words: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = errors::Errors::default();
    let attr = attr::Attr::parse(words, &mut errors);
    let function = match function::read(item) {
        Ok(function) => function,
        Err(not_a_function) => return not_a_function,
    };
    match check::check(attr, function, errors) {
        Ok(model) => expand::expand(&model),
        Err(rejected) => fallback::fallback(*rejected),
    }
}
