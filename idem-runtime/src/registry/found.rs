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

/// Whether an answer is the registry's own word that there is no such schema, subject or version: of
/// the codes that its interface documents, those of a 404 that name what was not found, and of a 422
/// those of a schema (42201) and of a version (42202) that are not valid, which no later question
/// changes. At a wrong address the code is that of HTTP, or there is none.
pub(super) fn is_unknown(body: &str) -> bool {
    error_code(body).is_some_and(|code| matches!(code, 40400..40500 | 42201 | 42202))
}

/// The registry's own code of an error.
pub(super) fn error_code(body: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Refused {
        error_code: u32,
    }
    Some(serde_json::from_str::<Refused>(body).ok()?.error_code)
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
        for code in [40401, 40402, 40403, 42201, 42202] {
            assert!(is_unknown(&format!(r#"{{"error_code": {code}, "message": "no"}}"#)), "{code}");
        }
        for code in [400, 401, 403, 404, 422, 40001, 40301, 42203, 42205, 42900, 50001] {
            assert!(!is_unknown(&format!(r#"{{"error_code": {code}, "message": "?"}}"#)), "{code}");
        }
        for other in ["<html>", "{}", r#"{"error_code": "40403"}"#] {
            assert!(!is_unknown(other), "{other}");
        }
    }

    #[test]
    fn a_subject_is_one_part_of_a_path() {
        assert_eq!(escaped("a-value_1"), "a-value_1");
        assert_eq!(escaped("../a b/ü"), "%2E%2E%2Fa%20b%2F%C3%BC");
    }
}
