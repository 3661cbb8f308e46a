//! The words of the attribute: `word = value`, in any order, each at most once.
//!
//! This is the only place that knows about unknown and repeated words. What a value may be is
//! `value.rs`, what goes with what is `check.rs`.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser as _};
use syn::{Ident, LitStr, Token};

use crate::errors::Errors;
use crate::key::{self, Key};
use crate::nearest::nearest;
use crate::value::{self, Store};

const WORDS: &[&str] = &["key", "store", "topic", "topics", "scope"];

/// The value of a word.
pub(crate) enum Word<T> {
    /// The word was not given.
    Absent,
    /// It was given with a mistake, which is reported already.
    Broken,
    /// It was given.
    Given(T),
}

impl<T> Word<T> {
    pub(crate) fn given(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Broken => None,
        }
    }
}

/// The attribute, each value checked by itself.
pub(crate) struct Attr {
    pub(crate) key: Word<Key>,
    pub(crate) store: Word<Store>,
    pub(crate) topics: Word<Vec<LitStr>>,
    pub(crate) scope: Word<LitStr>,
}

impl Attr {
    pub(crate) fn parse(words: TokenStream, errors: &mut Errors) -> Self {
        let mut attr = Self {
            key: Word::Absent,
            store: Word::Absent,
            topics: Word::Absent,
            scope: Word::Absent,
        };
        let parser = |input: ParseStream<'_>| {
            let mut seen = Vec::new();
            while !input.is_empty() {
                attr.word(input, &mut seen, errors);
                if !input.is_empty() && input.parse::<Token![,]>().is_err() {
                    errors.push(input.error("expected `,` before the next word"));
                    if !(input.peek(Ident::peek_any) && input.peek2(Token![=])) {
                        skip_word(input);
                        let _comma: Option<Token![,]> = input.parse()?;
                    }
                }
            }
            Ok(())
        };
        if let Err(error) = parser.parse2(words) {
            errors.push(error);
        }
        attr
    }

    /// Reads one `word = value`, or what stands in its place.
    fn word(&mut self, input: ParseStream<'_>, seen: &mut Vec<Seen>, errors: &mut Errors) {
        let (word, name) = match word(input) {
            Ok(found) => found,
            Err((meant, error)) => {
                errors.push(error);
                // `#[idempotent("event_id")]` means a key.
                if input.peek(LitStr) && matches!(self.key, Word::Absent) {
                    self.key = Word::Broken;
                }
                match meant {
                    // The value of a misspelt word is checked as if it were spelt right.
                    Some(meant) => meant,
                    None => return skip_word(input),
                }
            }
        };
        if let Some(error) = twice(&word, name, seen) {
            errors.push(error);
            return skip_word(input);
        }
        seen.push(name);
        let mut reader = Reader { word: &word, name, input, errors };
        match name {
            "key" => self.key = reader.read(key::key),
            "store" => self.store = reader.read(value::store),
            "topic" => self.topics = reader.read(value::topic),
            "topics" => self.topics = reader.read(value::topics),
            _ => self.scope = reader.read(value::scope),
        }
    }
}

/// A known word that was read already.
type Seen = &'static str;
/// A word as it was written, and the known word it is.
type Found = (Ident, &'static str);

/// Reads a word. An unknown one is an error, beside the known one it was meant to be.
fn word(input: ParseStream<'_>) -> Result<Found, (Option<Found>, syn::Error)> {
    if let Ok(text) = input.fork().parse::<LitStr>() {
        let message = format!("`{0}` of what? For the key write `key = {0}`", text.token());
        return Err((None, syn::Error::new(text.span(), message)));
    }
    if !input.peek(Ident::peek_any) {
        return Err((None, input.error("expected a word such as `key = \"event_id\"`")));
    }
    let word = Ident::parse_any(input).map_err(|error| (None, error))?;
    let name = word.unraw().to_string();
    if let Some(known) = WORDS.iter().find(|known| **known == name) {
        return Ok((word, known));
    }
    let near = nearest(&name, WORDS);
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "the words are `key`, `store`, `topic`, `topics` and `scope`".to_owned(),
    };
    let message = format!("`{name}` is not a word of `#[idempotent]`; {hint}");
    let error = syn::Error::new(word.span(), message);
    Err((near.map(|near| (word, near)), error))
}

fn twice(word: &Ident, name: Seen, seen: &[Seen]) -> Option<syn::Error> {
    let is_topics = |name: Seen| name == "topic" || name == "topics";
    let message = if seen.contains(&name) {
        format!("`{name}` is given twice; keep one")
    } else if is_topics(name) && seen.iter().copied().any(is_topics) {
        "`topic` and `topics` are both given; put all of them into `topics = [..]`".to_owned()
    } else {
        return None;
    };
    Some(syn::Error::new(word.span(), message))
}

/// Reads the value of one word.
struct Reader<'a, 'b> {
    word: &'a Ident,
    name: &'static str,
    input: ParseStream<'b>,
    errors: &'a mut Errors,
}

impl<'b> Reader<'_, 'b> {
    fn read<T>(&mut self, parse: fn(ParseStream<'b>, &mut Errors) -> syn::Result<T>) -> Word<T> {
        let before = self.errors.len();
        let value = self.equals().and_then(|()| parse(self.input, self.errors));
        match value {
            Ok(value) if self.errors.len() == before => Word::Given(value),
            Ok(_) => Word::Broken,
            Err(error) => {
                self.errors.push(error);
                skip_word(self.input);
                Word::Broken
            }
        }
    }

    fn equals(&self) -> syn::Result<()> {
        let example = match self.name {
            "key" => "key = \"event_id\"",
            "store" => "store = \"postgres\"",
            "topic" => "topic = \"orders\"",
            "topics" => "topics = [\"orders\", \"returns\"]",
            _ => "scope = \"billing\"",
        };
        let wrong = |span: Span| {
            Err(syn::Error::new(span, format!("`{}` needs a value: `{example}`", self.name)))
        };
        if !self.input.peek(Token![=]) {
            return wrong(self.word.span());
        }
        let equals: Token![=] = self.input.parse()?;
        if self.input.is_empty() || self.input.peek(Token![,]) {
            return wrong(equals.span);
        }
        Ok(())
    }
}

/// Reads on to the next comma.
fn skip_word(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}
