//! Patterns of event types, as message brokers have them: `order.*.us-west`, `order.#`.

/// A pattern of event types: segments divided by dots, where `*` is exactly one segment and `#` any
/// number of them, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Word(Box<str>),
    /// `*`
    One,
    /// `#`
    Any,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence on what is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("the event type pattern `{text}` {what}"));
        if text.is_empty() {
            return Err("an event type pattern is empty: write `#` for every type".to_owned());
        }
        let mut segments = Vec::new();
        for segment in text.split('.') {
            segments.push(match segment {
                "" => return wrong("has an empty segment: between two dots stands a word"),
                "*" => Segment::One,
                "#" => Segment::Any,
                word if word.contains(['*', '#']) => {
                    return wrong(
                        "has a `*` or `#` that is not a whole segment: write `order.*`, not \
                         `order.a*`",
                    );
                }
                word => Segment::Word(word.into()),
            });
        }
        // Two in a row say no more than one.
        segments.dedup_by(|a, b| *a == Segment::Any && *b == Segment::Any);
        Ok(Self(segments))
    }

    /// Whether an event type is of this pattern.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let pattern = &self.0;
        let mut rest = text.split('.');
        let mut at = 0;
        // Behind the last `#`: where to go on in the pattern, and with what of the text. There one
        // segment more is given to the `#` when the rest does not fit; an earlier `#` need not be
        // tried again, because the last one can take whatever it could give.
        let mut retry = None;
        loop {
            if pattern.get(at) == Some(&Segment::Any) {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            let fits = match (pattern.get(at), rest.next()) {
                (None, None) => return true,
                (Some(_), None) => return false,
                (None, Some(_)) => false,
                (Some(Segment::Word(word)), Some(segment)) => **word == *segment,
                (Some(_), Some(_)) => true,
            };
            if fits {
                at += 1;
                continue;
            }
            let Some((behind, from)) = &mut retry else { return false };
            from.next();
            (at, rest) = (*behind, from.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(text)
    }

    #[test]
    fn a_star_is_exactly_one_segment() {
        assert!(matches("order.*.us-west", "order.placed.us-west"));
        assert!(!matches("order.*.us-west", "order.us-west"));
        assert!(!matches("order.*.us-west", "order.placed.late.us-west"));
        assert!(matches("*", "order") && !matches("*", "order.placed"));
    }

    #[test]
    fn a_hash_is_any_number_of_segments_anywhere() {
        for text in ["order", "order.placed", "order.placed.us.west"] {
            assert!(matches("order.#", text) && matches("#", text), "{text}");
        }
        assert!(!matches("order.#", "orders.placed"));
        assert!(matches("#.us", "us") && matches("#.us", "a.us.b.us") && !matches("#.us", "us.b"));
        assert!(matches("a.#.b.#.c", "a.b.c") && matches("a.#.b.#.c", "a.x.b.b.y.c"));
        assert!(!matches("a.#.b.#.c", "a.c.b"));
    }

    #[test]
    fn types_are_case_sensitive_and_compared_as_a_whole() {
        assert!(matches("order.placed", "order.placed"));
        assert!(!matches("order.placed", "Order.placed"));
        assert!(!matches("order.placed", "order.placed.v2"));
        assert!(!matches("order.placed.v2", "order.placed"));
    }

    #[test]
    fn a_pattern_that_is_none_says_why() {
        for (pattern, why) in [
            ("", "is empty"),
            ("order..placed", "empty segment"),
            (".order", "empty segment"),
            ("order.", "empty segment"),
            ("order.**", "not a whole segment"),
            ("order.a*", "not a whole segment"),
            ("order.#x", "not a whole segment"),
        ] {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }

    /// The definition, as it is said.
    fn naive(pattern: &[&str], text: &[&str]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                naive(rest, text) || !text.is_empty() && naive(pattern, &text[1..])
            }
            (Some((&"*", rest)), Some((_, others))) => naive(rest, others),
            (Some((word, rest)), Some((other, others))) => word == other && naive(rest, others),
            _ => false,
        }
    }

    #[test]
    fn every_short_pattern_agrees_with_the_definition() {
        fn all(words: &[&'static str], most: usize) -> Vec<Vec<&'static str>> {
            let mut texts: Vec<Vec<&str>> = words.iter().map(|word| vec![*word]).collect();
            for from in 0.. {
                let Some(text) = texts.get(from).cloned() else { return texts };
                if text.len() < most {
                    texts.extend(words.iter().map(|word| {
                        let mut longer = text.clone();
                        longer.push(word);
                        longer
                    }));
                }
            }
            texts
        }
        let texts = all(&["a", "b"], 5);
        let mut matched = 0;
        for pattern in all(&["a", "b", "*", "#"], 4) {
            let read = Pattern::new(&pattern.join(".")).unwrap();
            for text in &texts {
                let expected = naive(&pattern, text);
                assert_eq!(read.matches(&text.join(".")), expected, "{pattern:?} on {text:?}");
                matched += usize::from(expected);
            }
        }
        assert!(matched > 1000, "{matched}");
    }
}
