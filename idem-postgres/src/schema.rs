//! The name of the schema: validated once, quoted everywhere.

use idem_runtime::{Error, ErrorKind, Result};

/// What fits into an identifier of PostgreSQL (63 bytes) with something of ours beside it.
const MAX_LEN: usize = 48;

/// A schema's name that is safe to put into SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema {
    name: String,
    quoted: String,
}

impl Schema {
    /// Letters, digits and `_` of ASCII, not beginning with a digit, at most 48 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is not that.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let wrong = if name.is_empty() {
            "is empty"
        } else if name.len() > MAX_LEN {
            "is longer than 48 bytes"
        } else if !name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_') {
            "has a character that is not a letter, a digit or `_`"
        } else if name.starts_with(|it: char| it.is_ascii_digit()) {
            "begins with a digit"
        } else if name.starts_with("pg_") {
            "begins with `pg_`, which PostgreSQL keeps for itself"
        } else {
            return Ok(Self { name: name.to_owned(), quoted: format!("\"{name}\"") });
        };
        Err(Error::new(ErrorKind::Config, format!("the name of the schema, {name:?}, {wrong}")))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// With the quotes that keep it as it is.
    pub(crate) fn quoted(&self) -> &str {
        &self.quoted
    }

    /// `{schema}` in the template becomes the quoted name.
    pub(crate) fn render(&self, template: &str) -> String {
        template.replace("{schema}", &self.quoted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_identifier_is_a_schema_and_nothing_else_is() {
        for good in ["idem", "Idem_2", "_x", &"a".repeat(48)] {
            assert_eq!(Schema::new(good).unwrap().name(), good);
        }
        for bad in ["", "1a", "a-b", "a b", "a\"b", "a;b", "a.b", "ü", "pg_idem", &"a".repeat(49)]
        {
            assert_eq!(Schema::new(bad).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
    }

    #[test]
    fn the_name_goes_into_sql_in_quotes() {
        let schema = Schema::new("select").unwrap();
        assert_eq!(schema.render("table {schema}.lanes"), "table \"select\".lanes");
    }
}
