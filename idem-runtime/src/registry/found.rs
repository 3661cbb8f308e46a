//! What a registry answers, as JSON.

use std::fmt::Write as _;

use serde::Deserialize;

/// A schema: the answer to an id, and to a version of a subject.
#[derive(Deserialize)]
pub(super) struct Found {
    pub(super) schema: String,
    /// Left out for Avro.
    #[serde(rename = "schemaType")]
    pub(super) schema_type: Option<String>,
    #[serde(default)]
    pub(super) references: Vec<Reference>,
}

/// Another schema whose types this one uses.
#[derive(Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) subject: String,
    pub(super) version: u32,
}

/// Whether a 404 is the registry's own word that there is no such schema, subject or version. At a
/// wrong address the code is 404, or there is none.
pub(super) fn is_unknown(body: &str) -> bool {
    #[derive(Deserialize)]
    struct Refused {
        error_code: u32,
    }
    serde_json::from_str::<Refused>(body).is_ok_and(|it| (40400..40500).contains(&it.error_code))
}

/// A subject as one part of a path.
pub(super) fn escaped(subject: &str) -> String {
    let mut path = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                path.push(char::from(byte))
            }
            // A dot, too: a subject that is two of them would lead elsewhere. Writing to a `String`
            // cannot fail.
            _ => _ = write!(path, "%{byte:02X}"),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_registrys_own_word_says_that_a_schema_is_unknown() {
        assert!(is_unknown(r#"{"error_code": 40403, "message": "Schema not found"}"#));
        for other in [r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#, "<html>", "{}"] {
            assert!(!is_unknown(other), "{other}");
        }
    }

    #[test]
    fn a_subject_is_one_part_of_a_path() {
        assert_eq!(escaped("a-value_1"), "a-value_1");
        assert_eq!(escaped("../a b/ü"), "%2E%2E%2Fa%20b%2F%C3%BC");
    }
}
