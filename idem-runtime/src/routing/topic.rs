//! Topics by name, or by a pattern that new ones are found by.

use std::sync::Arc;

use regex_lite::Regex;

/// The longest name of a topic.
const MAX_LEN: usize = 249;

/// A topic that a handler reads, or a pattern of topics.
///
/// A pattern is a text that begins with `^`, as for the Kafka client, which finds the topics: it is
/// searched for in the name, and only what all engines that have a say read the same way is allowed
/// in it (POSIX's extended expressions in the client, RE2 in brokers).
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    /// The name, or the pattern.
    pub(crate) text: Arc<str>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Name,
    Pattern(Regex),
    /// A pattern that is none, with the reason.
    Broken(String),
}

impl Topic {
    pub(crate) fn new(text: &str) -> Self {
        let kind = match text.starts_with('^') {
            false => Kind::Name,
            true => match pattern(text) {
                Ok(regex) => Kind::Pattern(regex),
                Err(why) => Kind::Broken(why),
            },
        };
        Self { text: text.into(), kind }
    }

    /// Whether it is a pattern.
    pub(crate) fn is_pattern(&self) -> bool {
        !matches!(self.kind, Kind::Name)
    }

    /// Whether it names this topic. No pattern does with an internal one.
    pub(crate) fn names(&self, topic: &str) -> bool {
        match &self.kind {
            Kind::Name => *self.text == *topic,
            Kind::Pattern(regex) => !topic.starts_with("__") && regex.is_match(topic),
            Kind::Broken(_) => false,
        }
    }

    /// What is wrong with it, in a sentence.
    pub(crate) fn mistake(&self) -> Option<String> {
        match &self.kind {
            Kind::Broken(why) => {
                Some(format!("the topic pattern `{}` cannot be used: {why}", self.text))
            }
            _ => None,
        }
    }
}

/// What a client is told to subscribe to: the names, and all patterns as one. A topic that two of a
/// subscription's entries name would be counted twice.
pub(crate) fn subscription(topics: &[Topic]) -> Vec<String> {
    let (patterns, names): (Vec<&Topic>, Vec<&Topic>) =
        topics.iter().partition(|topic| topic.is_pattern());
    let alone = names.into_iter().filter(|name| !patterns.iter().any(|it| it.names(&name.text)));
    let mut entries: Vec<String> = alone.map(|name| name.text.to_string()).collect();
    if !patterns.is_empty() {
        let patterns: Vec<&str> = patterns.iter().map(|it| &*it.text).collect();
        entries.push(patterns.join("|"));
    }
    entries
}

/// Reads a pattern that the Kafka client reads the same way.
fn pattern(text: &str) -> Result<Regex, String> {
    let mut set = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if set => {
                return Err("inside of `[]` a backslash is no escape: leave it out".into());
            }
            '\\' => {
                let next = chars.next();
                if !next.is_some_and(|it| it.is_ascii_punctuation()) {
                    return Err(format!(
                        "`\\{}` is not an escape that the Kafka client has: write a set, such as \
                         `[0-9]`",
                        next.map(String::from).unwrap_or_default()
                    ));
                }
            }
            '[' if set => {
                return Err("a class inside of `[]` is not allowed: write its characters".into());
            }
            '[' => {
                set = true;
                chars.next_if_eq(&'^');
                // First in a set it stands for itself, but not everywhere.
                if chars.peek() == Some(&']') {
                    return Err("a `]` cannot be the first in `[]`".into());
                }
            }
            ']' => set = false,
            '(' if chars.peek() == Some(&'?') => {
                return Err(
                    "`(?` is not something the Kafka client has: write a plain group".into()
                );
            }
            '*' | '+' | '?' | '}' if !set && matches!(chars.peek(), Some('?' | '+' | '*')) => {
                return Err(format!("`{c}` is repeated: repetitions are greedy, and single"));
            }
            // No topic's name has anything else.
            c if c.is_ascii_alphanumeric() || "._-^$*+?|(){},".contains(c) => {}
            c => return Err(format!("no topic's name has {c:?}")),
        }
    }
    if text.len() > 8 * MAX_LEN {
        return Err("it is too long".into());
    }
    Regex::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_searched_for_in_a_name() {
        let topic = Topic::new("^orders\\..*");
        assert!(topic.is_pattern() && topic.mistake().is_none());
        assert!(topic.names("orders.eu") && topic.names("orders."));
        assert!(
            !topic.names("orders") && !topic.names("my.orders.eu") && !topic.names("ordersXeu")
        );
        assert!(Topic::new("^a").names("ab") && !Topic::new("^a$").names("ab"));
        assert!(Topic::new("^(eu|us)-[a-z0-9]{2,4}$").names("us-west"));
    }

    #[test]
    fn a_name_is_nothing_but_itself() {
        let topic = Topic::new("orders.eu");
        assert!(topic.names("orders.eu") && !topic.names("ordersXeu") && !topic.is_pattern());
    }

    #[test]
    fn no_pattern_names_an_internal_topic() {
        assert!(!Topic::new("^.*").names("__consumer_offsets"));
        assert!(Topic::new("^.*").names("_schemas"));
    }

    #[test]
    fn what_engines_read_in_two_ways_is_refused_with_the_reason() {
        for (pattern, why) in [
            ("^orders\\d", "`[0-9]`"),
            ("^orders[\\.]", "no escape"),
            ("^(?i)orders", "plain group"),
            ("^orders.*?", "greedy"),
            ("^orders[[:alpha:]]", "write its characters"),
            ("^[]a]", "first"),
            ("^orders eu", "no topic's name"),
            ("^(orders", "group"),
            ("^orders[a", "cannot be used"),
        ] {
            let error = Topic::new(pattern).mistake().unwrap();
            assert!(error.contains(why), "{pattern}: {error}");
            assert!(!Topic::new(pattern).names("orders"));
        }
    }

    #[test]
    fn a_topic_is_subscribed_to_once() {
        let topics = ["a", "^b\\.", "b.x", "^c"].map(Topic::new);
        assert_eq!(subscription(&topics), ["a", "^b\\.|^c"]);
        assert_eq!(subscription(&topics[..1]), ["a"]);
    }
}
