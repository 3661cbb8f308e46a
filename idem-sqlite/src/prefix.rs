//! What the names of idem's tables begin with: validated once.

use idem_runtime::{Error, ErrorKind, Result};

const MAX_LEN: usize = 48;

/// A prefix that is safe to put into SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prefix(String);

impl Prefix {
    /// Letters, digits and `_` of ASCII, not beginning with a digit, ending with `_`, at most 48
    /// bytes. Ending with `_`, so that with the table's name it is no word of SQL.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is not that.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let wrong = if prefix.len() > MAX_LEN {
            "is longer than 48 bytes"
        } else if !prefix.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_') {
            "has a character that is not a letter, a digit or `_`"
        } else if prefix.starts_with(|it: char| it.is_ascii_digit()) {
            "begins with a digit"
        } else if !prefix.ends_with('_') {
            "does not end with `_`"
        } else if prefix.to_ascii_lowercase().starts_with("sqlite_") {
            "begins with `sqlite_`, which SQLite keeps for itself"
        } else {
            return Ok(Self(prefix.to_owned()));
        };
        Err(Error::new(ErrorKind::Config, format!("the prefix of the tables, {prefix:?}, {wrong}")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `{schema}` in the template becomes the prefix.
    pub(crate) fn render(&self, template: &str) -> String {
        template.replace("{schema}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_identifier_is_a_prefix_and_nothing_else_is() {
        for good in ["idem_", "Idem_2_", "_", &("a".repeat(47) + "_")] {
            assert_eq!(Prefix::new(good).unwrap().as_str(), good);
        }
        let long = "a".repeat(48) + "_";
        for bad in ["", "idem", "1_", "a-_", "a _", "a\"_", "a;_", "a._", "ü_", "SQLite_x_", &long]
        {
            assert_eq!(Prefix::new(bad).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
    }
}
