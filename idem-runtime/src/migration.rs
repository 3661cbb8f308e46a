//! Migrations, as far as they are the same for every database: which there are, which were applied,
//! and what is wrong when the two do not agree.
//!
//! A store keeps a ledger, one [`Entry`] for each migration that was applied, in a table of its own
//! beside its other tables, so that it never meets the ledger of the application's own tool.
//!
//! Not here: any SQL that reads or writes the ledger, and locking; stores do that.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// One step of a schema.
///
/// Its SQL is a template in which `{schema}` stands for the name of the schema. A migration that
/// was released never changes; a correction is a new migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its place in the order: 1, 2, 3 …
    pub version: i64,
    /// A word or two for people and for the file's name: letters, digits and `_`.
    pub name: &'static str,
    /// The template: statements, each with its semicolon, without `begin` and `commit`.
    pub sql: &'static str,
}

/// A row of the ledger: a migration that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The migration's version.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// Its [`Migration::checksum`].
    pub checksum: i64,
}

/// A migration as a plain SQL file, for a team that applies SQL with a tool of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationFile {
    /// The file's name, such as `0001_lanes.sql`; names sort in the order of the migrations.
    pub name: String,
    /// The SQL, with the row for the ledger, in one transaction.
    pub sql: String,
}

impl Migration {
    /// A number that changes when the SQL does: FNV-1a, 64 bit, over the template, so that it does
    /// not depend on the schema's name; nor on how a checkout ends its lines.
    pub fn checksum(&self) -> i64 {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let hash = self
            .sql
            .bytes()
            .filter(|byte| *byte != b'\r')
            .fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        hash.cast_signed()
    }

    /// The row for the ledger.
    pub fn entry(&self) -> Entry {
        Entry { version: self.version, name: self.name.to_owned(), checksum: self.checksum() }
    }

    /// The statements for a schema. `schema` goes in as it is: the store has validated and quoted
    /// it.
    pub fn statements(&self, schema: &str) -> String {
        self.sql.replace("{schema}", schema)
    }

    /// The statements for a schema and the row for the ledger, in one transaction. Applying it a
    /// second time fails, and changes nothing. `ledger` is the ledger's table, and goes in as it is.
    pub fn file(&self, schema: &str, ledger: &str) -> MigrationFile {
        let Self { version, name, .. } = self;
        let checksum = self.checksum();
        let statements = self.statements(schema);
        let statements = statements.trim_end();
        let sql = format!(
            "-- idem, migration {version}: {name}.\n\
             -- If your tool wraps each file in a transaction, leave out `begin` and `commit`.\n\
             begin;\n\n\
             {statements}\n\n\
             insert into {ledger} (version, name, checksum) values ({version}, '{name}', \
             {checksum});\n\n\
             commit;\n"
        );
        MigrationFile { name: self.file_name(), sql }
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        format!("{:04}_{}.sql", self.version, self.name)
    }
}

impl MigrationFile {
    /// With a line for people before the statements: what to know when it is applied.
    pub fn noting(mut self, note: &str) -> Self {
        let at = self.sql.len() - without_header(&self.sql).len();
        self.sql.insert_str(at, &format!("-- {note}\n"));
        self
    }
}

/// What is applied: all from the first line on that is no comment.
fn without_header(sql: &str) -> &str {
    let header = sql.split_inclusive('\n').take_while(|line| line.starts_with("--"));
    &sql[header.map(str::len).sum()..]
}

/// Compares the migrations of this program with what was applied, and returns those that are
/// pending, in order. Both slices are sorted by version.
///
/// # Errors
/// [`ErrorKind::Migration`] when the database is ahead of the program, when a migration was changed
/// after it was applied, or when one is missing below another that was applied.
pub fn review<'m>(known: &'m [Migration], applied: &[Entry]) -> Result<Vec<&'m Migration>> {
    let newest = known.last().map_or(0, |it| it.version);
    if let Some(entry) = applied.iter().find(|it| !known.iter().any(|k| k.version == it.version)) {
        return Err(refused(format!(
            "the database is ahead of this program: it has migration {} ({}), this release of idem \
             ends at {newest}: upgrade the program, or use the database it belongs to",
            entry.version, entry.name
        )));
    }
    let entry = |migration: &Migration| applied.iter().find(|it| it.version == migration.version);
    for migration in known {
        let Some(entry) = entry(migration) else { continue };
        if entry.checksum != migration.checksum() {
            return Err(refused(format!(
                "migration {} ({}) was changed: the ledger's checksum is {}, this release's is {}: \
                 somebody edited the SQL before or after it was applied, or the program was built \
                 from another source; restore the original and never edit a migration",
                migration.version,
                entry.name,
                entry.checksum,
                migration.checksum()
            )));
        }
    }
    let pending: Vec<_> = known.iter().filter(|it| entry(it).is_none()).collect();
    if let (Some(gap), Some(last)) = (pending.first(), applied.last())
        && gap.version < last.version
    {
        return Err(refused(format!(
            "migration {} ({}) was left out, though {} ({}) was applied: apply its SQL by hand, \
             with its row for the ledger (`migrations()` prints it)",
            gap.version, gap.name, last.version, last.name
        )));
    }
    Ok(pending)
}

/// What is checked at start: that exactly the migrations of this program were applied. `applied` is
/// `None` when there is no ledger.
///
/// # Errors
/// [`ErrorKind::Migration`]: as [`review`], and when the tables are missing or the database is
/// behind.
pub fn check(known: &[Migration], applied: Option<&[Entry]>) -> Result<()> {
    const FIX: &str = "call `store.migrate()` before the start, or apply the SQL that \
                       `migrations()` prints with the team's own tool";
    let Some(applied) = applied else {
        return Err(refused(format!("the tables of idem are missing: {FIX}")));
    };
    let pending = review(known, applied)?;
    if pending.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = pending.iter().map(|it| format!("{} ({})", it.version, it.name)).collect();
    let migrations = if names.len() == 1 { "migration" } else { "migrations" };
    Err(refused(format!(
        "the database is behind this program: {migrations} {} pending: {FIX}",
        names.join(", ")
    )))
}

/// Writes files into a folder, which is created when it is not there, and returns the paths of
/// those that were not there before.
///
/// # Errors
/// [`ErrorKind::Config`] when a file of that name has another content, or when it cannot be
/// written.
pub fn write_files(files: &[MigrationFile], folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let failed = |path: &Path, error: std::io::Error| {
        let message = format!("cannot write {}", path.display());
        Error::new(ErrorKind::Config, message).with_source(error)
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut written = Vec::new();
    for file in files {
        let path = folder.join(&file.name);
        match fs::read_to_string(&path) {
            // A release may have other words for people.
            Ok(there) if without_header(&there) == without_header(&file.sql) => continue,
            Ok(_) => {
                let message = format!(
                    "{} is there with another content: a migration never changes; remove the \
                     file, or write into another folder",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Config, message));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, error)),
        }
        fs::write(&path, &file.sql).map_err(|error| failed(&path, error))?;
        written.push(path);
    }
    Ok(written)
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Migration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Migration =
        Migration { version: 1, name: "lanes", sql: "create table {schema}.lanes (id bigint);\n" };
    const TWO: Migration =
        Migration { version: 2, name: "marks", sql: "create table {schema}.marks (id bigint);\n" };
    const KNOWN: [Migration; 2] = [ONE, TWO];

    fn refusal(applied: Option<&[Entry]>) -> String {
        let error = check(&KNOWN, applied).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Migration);
        error.to_string()
    }

    #[test]
    fn what_was_not_applied_is_pending_in_order() {
        assert_eq!(review(&KNOWN, &[]).unwrap(), [&ONE, &TWO]);
        assert_eq!(review(&KNOWN, &[ONE.entry()]).unwrap(), [&TWO]);
        assert!(review(&KNOWN, &[ONE.entry(), TWO.entry()]).unwrap().is_empty());
    }

    #[test]
    fn each_disagreement_has_its_own_error_that_names_the_fix() {
        assert!(refusal(None).contains("missing: call `store.migrate()`"));
        let behind = refusal(Some(&[ONE.entry()]));
        assert!(behind.contains("behind") && behind.contains("migration 2 (marks)"), "{behind}");
        let newer = Entry { version: 3, name: "new".into(), checksum: 0 };
        let ahead = refusal(Some(&[ONE.entry(), TWO.entry(), newer]));
        assert!(ahead.contains("ahead") && ahead.contains("upgrade the program"), "{ahead}");
        let edited = Entry { checksum: 0, ..ONE.entry() };
        assert!(refusal(Some(&[edited, TWO.entry()])).contains("was changed"));
        assert!(refusal(Some(&[TWO.entry()])).contains("left out"));
    }

    #[test]
    fn a_database_in_step_passes() {
        check(&KNOWN, Some(&[ONE.entry(), TWO.entry()])).unwrap();
    }

    #[test]
    fn the_checksum_depends_on_the_sql_and_not_on_line_endings() {
        assert_eq!(Migration { sql: "", ..ONE }.checksum().cast_unsigned(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Migration { sql: "a", ..ONE }.checksum().cast_unsigned(), 0xaf63_dc4c_8601_ec8c);
        let crlf = Migration { sql: "create table {schema}.lanes (id bigint);\r\n", ..ONE };
        assert_eq!(crlf.checksum(), ONE.checksum());
        assert_ne!(ONE.checksum(), TWO.checksum());
    }

    #[test]
    fn a_note_for_people_is_in_the_header() {
        let file = ONE.file("idem", "idem.migrations");
        let noting = file.clone().noting("Apply it as the owner.");
        assert_eq!(noting.name, file.name);
        assert!(noting.sql.contains("-- Apply it as the owner.\nbegin;\n"), "{}", noting.sql);
        assert_eq!(without_header(&noting.sql), without_header(&file.sql));
    }

    #[test]
    fn a_file_is_one_transaction_with_its_row_for_the_ledger() {
        let file = ONE.file("idem", "idem.migrations");
        assert_eq!(file.name, "0001_lanes.sql");
        let lines: Vec<_> = file.sql.lines().filter(|it| !it.starts_with("--")).collect();
        assert_eq!(lines.first(), Some(&"begin;"));
        assert_eq!(lines.last(), Some(&"commit;"));
        assert!(file.sql.contains("create table idem.lanes"));
        let row = format!("values (1, 'lanes', {})", ONE.checksum());
        assert!(file.sql.contains(&row), "{}", file.sql);
    }
}
