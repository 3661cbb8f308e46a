//! What is in a row: digests with their offsets and times, and how that is written.

use std::fmt;
use std::time::SystemTime;

use super::digest::Digest;
use super::row::PackRow;

/// The contents of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pack {
    /// Each digest with the offset of its event, in the order of the batch.
    pub entries: Vec<(i64, Digest)>,
    /// Of a row that others were merged into: how many of the entries, in their order, were written
    /// when. Empty for a row of one batch, whose time is the row's.
    pub spans: Vec<(u32, SystemTime)>,
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged(pub(crate) String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

impl Pack {
    /// How it is written.
    pub fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    pub(crate) fn join(_rows: &[PackRow]) -> Result<PackRow, Damaged> {
        Err(Damaged(String::new()))
    }

    /// Reads what a row has.
    ///
    /// # Errors
    /// [`Damaged`] when it is not what was written.
    pub fn decode(_row: &PackRow) -> Result<Self, Damaged> {
        Err(Damaged("not read yet".into()))
    }
}
