//! A list of words, `word = value, word = value`, in any order, each at most once: the attribute's
//! own, and those in the parentheses of a value.
//!
//! This is the only place that knows about unknown and repeated words. What a value may be is the
//! business of who reads it.

use proc_macro2::{Span, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::{Ident, LitStr, Token, token};

use crate::errors::Errors;
use crate::forms::listed;
use crate::nearest::nearest;

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

/// The words of a list.
pub(crate) struct Words {
    /// Whose words they are.
    pub(crate) of: &'static str,
    /// Each word, and an example of it.
    pub(crate) known: &'static [(&'static str, &'static str)],
    /// Words that people try, and what to say.
    pub(crate) other: &'static [(&'static str, &'static str)],
    /// The word that a string without a word is meant for.
    pub(crate) lone: Option<&'static str>,
}

impl Words {
    /// Reads the whole of `input`, and gives each known word to `each`, which reads its value.
    pub(crate) fn read(
        &self,
        input: ParseStream<'_>,
        errors: &mut Errors,
        mut each: impl FnMut(Entry<'_, '_>),
    ) {
        let mut seen = Vec::new();
        while !input.is_empty() {
            self.word(input, errors, &mut seen, &mut each);
            if !input.is_empty() && input.parse::<Token![,]>().is_err() {
                errors.push(input.error("expected `,` before the next word"));
                if !self.at_word(input) {
                    skip_word(input);
                    if input.parse::<Token![,]>().is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads one word and its value, or what stands in its place.
    fn word(
        &self,
        input: ParseStream<'_>,
        errors: &mut Errors,
        seen: &mut Vec<&'static str>,
        each: &mut impl FnMut(Entry<'_, '_>),
    ) {
        let start = input.span();
        let found = self.find(input);
        let (word, name) = match found {
            Ok(found) => found,
            Err((meant, error)) => {
                errors.push(error);
                match meant {
                    // The value of a misspelt word is checked as if it were spelt right.
                    Some(meant) => meant,
                    None => {
                        // `#[idempotent("event_id")]` means a key.
                        if let (Some(name), true) = (self.lone, input.peek(LitStr)) {
                            let word = Ident::new(name, start);
                            each(Entry { word, name, example: "", input, errors, broken: true });
                        }
                        return skip_word(input);
                    }
                }
            }
        };
        if seen.contains(&name) {
            errors.at(word.span(), format!("`{name}` is given twice; keep one"));
            return skip_word(input);
        }
        seen.push(name);
        let example = self.example(name);
        each(Entry { word, name, example, input, errors, broken: false });
    }

    /// Reads a word. An unknown one is an error, beside the known one it was meant to be.
    fn find(&self, input: ParseStream<'_>) -> Result<Found, (Option<Found>, syn::Error)> {
        let names: Vec<&'static str> = self.known.iter().map(|(known, _)| *known).collect();
        let first = self.known.first().map_or("", |(_, example)| example);
        if let Ok(text) = input.fork().parse::<LitStr>() {
            let message = match self.lone {
                Some(lone) => {
                    format!("`{0}` of what? For the {lone} write `{lone} = {0}`", text.token())
                }
                None => format!(
                    "`{}` of what? The words are {}",
                    text.token(),
                    listed("`", &names, "and")
                ),
            };
            return Err((None, syn::Error::new(text.span(), message)));
        }
        if !input.peek(Ident::peek_any) {
            return Err((None, input.error(format!("expected a word such as `{first}`"))));
        }
        let word = Ident::parse_any(input).map_err(|error| (None, error))?;
        let name = word.unraw().to_string();
        if let Some(known) = names.iter().find(|known| **known == name) {
            return Ok((word, known));
        }
        let other = self.other.iter().find(|(other, _)| *other == name);
        let near = if other.is_none() { nearest(&name, &names) } else { None };
        let hint = match (other, near) {
            (Some((_, hint)), _) => (*hint).to_owned(),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("the words are {}", listed("`", &names, "and")),
        };
        let message = format!("`{name}` is not a word of `{}`; {hint}", self.of);
        let error = syn::Error::new(word.span(), message);
        Err((near.map(|near| (word, near)), error))
    }

    /// Whether a word begins here, and not the rest of a value.
    fn at_word(&self, input: ParseStream<'_>) -> bool {
        let is_known = || {
            let word = input.fork().call(Ident::parse_any).map(|it| it.unraw().to_string());
            word.is_ok_and(|word| self.known.iter().any(|(known, _)| *known == word))
        };
        input.peek(Ident::peek_any)
            && (input.peek2(Token![=]) || input.peek2(token::Paren) && is_known())
    }

    fn example(&self, name: &str) -> &'static str {
        self.known.iter().find(|(known, _)| *known == name).map_or("", |(_, example)| example)
    }
}

/// A word as it was written, and the known word it is.
type Found = (Ident, &'static str);

/// A word whose value is still to be read.
pub(crate) struct Entry<'a, 'b> {
    word: Ident,
    pub(crate) name: &'static str,
    example: &'static str,
    input: ParseStream<'b>,
    errors: &'a mut Errors,
    /// Whether there is nothing to read: the mistake is reported already.
    broken: bool,
}

impl<'b> Entry<'_, 'b> {
    /// Where it stands.
    pub(crate) fn span(&self) -> Span {
        self.word.span()
    }

    /// Reads `= value`.
    pub(crate) fn value<T>(
        mut self,
        parse: impl FnOnce(ParseStream<'b>, &mut Errors) -> syn::Result<T>,
    ) -> Word<T> {
        self.read(|this| {
            this.equals()?;
            parse(this.input, this.errors)
        })
    }

    /// Reads `(list)`, or else `= value`.
    pub(crate) fn list_or_value<T>(
        mut self,
        list: impl FnOnce(token::Paren, ParseStream<'_>, &mut Errors) -> syn::Result<T>,
        value: impl FnOnce(ParseStream<'b>, &mut Errors) -> syn::Result<T>,
    ) -> Word<T> {
        if !self.input.peek(token::Paren) {
            return self.value(value);
        }
        self.read(|this| {
            let content;
            let paren = syn::parenthesized!(content in this.input);
            list(paren, &content, this.errors)
        })
    }

    /// Reads `= value`, or nothing: the word alone says it.
    pub(crate) fn value_or_alone<T>(
        self,
        alone: T,
        value: impl FnOnce(ParseStream<'b>, &mut Errors) -> syn::Result<T>,
    ) -> Word<T> {
        if !self.broken && (self.input.is_empty() || self.input.peek(Token![,])) {
            return Word::Given(alone);
        }
        self.value(value)
    }

    /// Says that the word cannot be here, and skips its value.
    pub(crate) fn refuse(self, message: &str) {
        self.errors.at(self.word.span(), message);
        skip_word(self.input);
    }

    fn read<T>(&mut self, parse: impl FnOnce(&mut Self) -> syn::Result<T>) -> Word<T> {
        if self.broken {
            return Word::Broken;
        }
        let before = self.errors.len();
        match parse(self) {
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
        let wrong = |span: Span| {
            let message = format!("`{}` needs a value: `{}`", self.name, self.example);
            Err(syn::Error::new(span, message))
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
