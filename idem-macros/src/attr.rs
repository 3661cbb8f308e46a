//! The attribute: its words, each with the reader of its value.
//!
//! How a list of words is read is `words.rs`, what goes with what is `check.rs`.

use proc_macro2::{Span, TokenStream};
use syn::parse::{ParseStream, Parser as _};
use syn::{ExprPath, LitStr};

use crate::allow::{self, Allow};
use crate::effects::{self, UnknownEnd};
use crate::errors::Errors;
use crate::format::{self, Format};
use crate::key::{self, Key, Source};
use crate::markers::{self, Markers};
use crate::policy::{self, Isolation, MissingKey, OnFailure, PayloadCheck};
use crate::retry::{self, Retry};
use crate::time::Time;
use crate::types::{self, TypeFrom, Types};
use crate::value::{self, Store};
use crate::words::{Entry, Word, Words};

const WORDS: Words = Words {
    of: "#[idempotent]",
    known: &[
        ("key", "key = \"event_id\""),
        ("store", "store = \"postgres\""),
        ("topic", "topic = \"orders\""),
        ("topics", "topics = [\"orders\", \"returns\"]"),
        ("scope", "scope = \"billing\""),
        ("retry", "retry(max = 5)"),
        ("permanent", "permanent = BillingError::is_permanent"),
        ("on_failure", "on_failure = \"dead_letter\""),
        ("isolation", "isolation = \"serializable\""),
        ("timeout", "timeout = \"30s\""),
        ("order_by", "order_by = \"message_key\""),
        ("slices", "slices = 8"),
        ("tenant", "tenant = \"tenant_id\""),
        ("missing_key", "missing_key = \"dead_letter\""),
        ("allow", "allow(timestamp_key, reason = \"one reading a second\")"),
        ("store_result", "store_result"),
        ("payload_check", "payload_check = \"warn\""),
        ("effects", "effects = external(unknown = \"retry\")"),
        ("types", "types = \"order.*\""),
        ("type_from", "type_from = header(\"event-type\")"),
        ("format", "format = \"avro\""),
        ("markers", "markers = \"packed\""),
    ],
    other: &[
        ("max", "it is a part of `retry`: `retry(max = 5)`"),
        ("backoff", "it is a part of `retry`: `retry(backoff = \"200ms..30s\")`"),
        ("jitter", "it is a part of `retry`: `retry(jitter = false)`"),
        ("total", "it is a part of `retry`: `retry(total = \"10m\")`"),
        ("limit", "it is a part of `on_failure`: `on_failure = park_key(limit = 5000)`"),
        ("max_retries", "write `retry(max = 5)`, which counts the first attempt, too"),
        ("retries", "write `retry(max = 5)`, which counts the first attempt, too"),
        ("attempts", "write `retry(max = 5)`"),
        ("dead_letter", "write `on_failure = \"dead_letter\"`"),
        ("park_key", "write `on_failure = \"park_key\"`"),
        ("isolation_level", "did you mean `isolation`?"),
        ("batch", "a handler whose first parameter is a `Vec<OrderPlaced>` takes batches"),
        ("header", "write `key = header(\"idempotency-key\")`"),
        ("message_key", "write `key = message_key`"),
        ("content_hash", "write `key = content_hash`"),
        ("with", "write `key = with(path::to::function)`"),
        ("timestamp_key", "write `allow(timestamp_key, reason = \"..\")`"),
        ("secret_key", "write `allow(secret_key, reason = \"..\")`"),
        ("reason", "it is a part of `allow`: `allow(timestamp_key, reason = \"..\")`"),
        ("expect", "did you mean `allow`?"),
        ("result", "write `store_result`"),
        ("external", "write `effects = external(unknown = \"retry\")`"),
        ("probe", "write `effects = external(probe = was_charged)`"),
        ("fingerprint", "write `payload_check = \"warn\"`"),
        ("type", "did you mean `types`?"),
        ("event_type", "did you mean `types`, or `type_from = header(\"event-type\")`?"),
        ("event_types", "did you mean `types`?"),
        ("pattern", "patterns are values: `types = \"order.*\"`, `topic = regex(\"^orders\")`"),
        ("regex", "it is a value of `topic`: `topic = regex(\"^orders\")`"),
        ("topic_pattern", "write `topic = regex(\"^orders\")`"),
        ("unmatched", "it is the group's: `.unmatched(Unmatched::DeadLetter)` on the builder"),
        (
            "correlation",
            "it is the group's: `.correlation(Correlation::headers(..))` on the builder",
        ),
        ("broadcast", "it is the group's: `.broadcast(..)` on the builder"),
        ("window", "it is a part of `markers`: `markers = packed(window = \"7d\")`"),
        ("events", "it is a part of `markers`: `markers = packed(events = 10_000_000)`"),
        ("packed", "write `markers = \"packed\"`"),
        ("rows", "write `markers = \"rows\"`"),
        ("retention", "write `markers = packed(window = \"7d\")`"),
        ("ttl", "write `markers = packed(window = \"7d\")`"),
        ("stale", "it is the group's: `.stale(Stale::DeadLetter)` on the builder"),
        (
            "layout_changed",
            "it is the group's: `.layout_changed(LayoutChanged::Widen)` on the builder",
        ),
        ("codec", "did you mean `format`?"),
        ("encoding", "did you mean `format`?"),
        (
            "schema",
            "schemas are in a registry, which the builder is told of: `.schema_registry(..)`",
        ),
    ],
    lone: Some("key"),
};

/// The attribute, each value checked by itself.
pub(crate) struct Attr {
    pub(crate) key: Word<Key>,
    pub(crate) store: Word<Store>,
    pub(crate) topics: Word<Vec<LitStr>>,
    pub(crate) scope: Word<LitStr>,
    pub(crate) retry: Word<Retry>,
    pub(crate) permanent: Word<ExprPath>,
    pub(crate) on_failure: Word<OnFailure>,
    pub(crate) isolation: Word<Isolation>,
    pub(crate) timeout: Word<Time>,
    /// Where it was said that there is an order per message key.
    pub(crate) order_by: Word<Span>,
    pub(crate) slices: Word<(u16, Span)>,
    pub(crate) tenant: Word<Source>,
    pub(crate) missing_key: Word<(MissingKey, Span)>,
    pub(crate) allow: Word<Allow>,
    /// How many bytes of a result are stored at most.
    pub(crate) store_result: Word<(usize, Span)>,
    pub(crate) payload_check: Word<(PayloadCheck, Span)>,
    pub(crate) effects: Word<(UnknownEnd, Span)>,
    pub(crate) types: Word<Types>,
    pub(crate) type_from: Word<TypeFrom>,
    pub(crate) format: Word<Format>,
    pub(crate) markers: Word<(Markers, Span)>,
}

impl Attr {
    pub(crate) fn parse(words: TokenStream, errors: &mut Errors) -> Self {
        let mut attr = Self {
            key: Word::Absent,
            store: Word::Absent,
            topics: Word::Absent,
            scope: Word::Absent,
            retry: Word::Absent,
            permanent: Word::Absent,
            on_failure: Word::Absent,
            isolation: Word::Absent,
            timeout: Word::Absent,
            order_by: Word::Absent,
            slices: Word::Absent,
            tenant: Word::Absent,
            missing_key: Word::Absent,
            allow: Word::Absent,
            store_result: Word::Absent,
            payload_check: Word::Absent,
            effects: Word::Absent,
            types: Word::Absent,
            type_from: Word::Absent,
            format: Word::Absent,
            markers: Word::Absent,
        };
        let parser = |input: ParseStream<'_>| {
            WORDS.read(input, errors, |entry| attr.word(entry));
            Ok(())
        };
        // Everything was read, so what is left over belongs to a mistake inside of parentheses that
        // is known already.
        if let Err(error) = parser.parse2(words)
            && errors.len() == 0
        {
            errors.push(error);
        }
        attr
    }

    fn word(&mut self, entry: Entry<'_, '_>) {
        match entry.name {
            "key" => self.key = entry.value(key::key),
            "store" => self.store = entry.value(value::store),
            "topic" | "topics" if !matches!(self.topics, Word::Absent) => entry.refuse(
                "`topic` and `topics` are both given; put all of them into `topics = [..]`",
            ),
            "topic" => self.topics = entry.value(value::topic),
            "topics" => self.topics = entry.value(value::topics),
            "scope" => self.scope = entry.value(value::scope),
            "retry" => self.retry = entry.list_or_value(retry::list, retry::whole),
            "permanent" => self.permanent = entry.value(policy::permanent),
            "on_failure" => self.on_failure = entry.value(policy::on_failure),
            "isolation" => self.isolation = entry.value(policy::isolation),
            "timeout" => self.timeout = entry.value(policy::timeout),
            "order_by" => self.order_by = entry.value(policy::order_by),
            "slices" => self.slices = entry.value(policy::slices),
            "tenant" => self.tenant = entry.value(key::tenant),
            "missing_key" => self.missing_key = entry.value(policy::missing_key),
            "allow" => self.allow = entry.list_or_value(allow::list, allow::value),
            "store_result" => {
                let alone = (policy::RESULT_BYTES, entry.span());
                self.store_result = entry.value_or_alone(alone, policy::store_result);
            }
            "effects" => self.effects = entry.value(effects::effects),
            "payload_check" => self.payload_check = entry.value(policy::payload_check),
            "types" => self.types = entry.value(types::types),
            "type_from" => self.type_from = entry.value(types::type_from),
            "format" => self.format = entry.value(format::format),
            _ => self.markers = entry.value(markers::markers),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::WORDS;

    /// The reference page, as sections: the words in the heading, and the code below it.
    fn sections() -> Vec<(Vec<String>, String)> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../idem/docs/idempotent.md");
        let page = std::fs::read_to_string(page).expect("the reference page is beside this crate");
        let mut sections = Vec::new();
        for section in page.split("\n## ").skip(1) {
            let (heading, text) = section.split_once('\n').expect("a section has a text");
            let words = heading.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let code = text.split("```").skip(1).step_by(2).collect();
            sections.push((words, code));
        }
        sections
    }

    /// Whether code gives the word a value, or is the word alone.
    fn uses(code: &str, word: &str) -> bool {
        code.match_indices(word).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            let after = code[at + word.len()..].trim_start().chars().next();
            before.is_none_or(|it| !it.is_alphanumeric() && !"_.:".contains(it))
                && after.is_some_and(|it| "=(,)".contains(it))
        })
    }

    #[test]
    fn each_word_has_one_section_of_the_reference_page_with_an_example() {
        let sections = sections();
        let words: BTreeSet<&str> = WORDS.known.iter().map(|(word, _)| *word).collect();
        for word in &words {
            let own: Vec<_> =
                sections.iter().filter(|(words, _)| words.iter().any(|it| it == word)).collect();
            let [(_, code)] = own[..] else { panic!("`{word}` has {} sections", own.len()) };
            assert!(uses(code, word), "the section of `{word}` has no example of it");
        }
        let described: BTreeSet<&str> =
            sections.iter().flat_map(|(words, _)| words).map(String::as_str).collect();
        assert_eq!(described, words, "the sections of the page, and the words");
    }

    #[test]
    fn each_word_is_in_the_table_of_the_reference_page() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../idem/docs/idempotent.md");
        let page = std::fs::read_to_string(page).expect("the reference page is beside this crate");
        let table = page.split("# The words").nth(1).and_then(|it| it.split("\n## ").next());
        let rows = table.into_iter().flat_map(str::lines).filter_map(|it| it.strip_prefix("| `"));
        let listed: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        let words: BTreeSet<&str> = WORDS.known.iter().map(|(word, _)| *word).collect();
        assert_eq!(listed, words);
    }
}
