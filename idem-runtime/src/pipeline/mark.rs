//! The mark: the metadata of every offset commit that idem makes.
//!
//! It names the store and the scopes, so that a commit by somebody else (an operator who resets the
//! group, a consumer from before idem) can be told from our own, and a database that lost its lanes
//! from one that never had them.
//!
//! The store's number in it is for people and for a later release: it is not compared. The scopes alone
//! decide whether a database that lacks the lane has lost it, so that a schema which was made anew, with
//! another number, is not taken for one that never had the lane; and where the lane's row is there, the
//! row decides, whichever store the commit names. So data that was put into another schema with its lanes
//! goes on where it was. That its packed markers were made with another digest key is noticed by the lane
//! itself, before it works anything ([`DigestKey::id`](crate::packed::DigestKey::id)).

use std::fmt::Write as _;

use uuid::Uuid;

const PREFIX: &str = "idem/";
const VERSION: &str = "1";
/// Brokers keep 4096 bytes of metadata by default; past this many, scopes are written as digests.
const MAX_PLAIN: usize = 3000;

/// What a commit's metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nobody's: not made by idem.
    None,
    /// Made by idem: these words name its scopes. `None` when a newer release wrote it.
    Idem(Option<Vec<String>>),
}

/// The metadata that a group writes.
pub(crate) fn write(store: Uuid, scopes: &[&str]) -> String {
    let plain = format!("{PREFIX}{VERSION} {store} {}", scopes.join(","));
    if plain.len() <= MAX_PLAIN {
        return plain;
    }
    let mut text = format!("{PREFIX}{VERSION} {store} ");
    for (index, scope) in scopes.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{comma}{}", digest(scope));
    }
    text
}

/// Reads a commit's metadata.
pub(crate) fn read(metadata: &str) -> Mark {
    let Some(rest) = metadata.strip_prefix(PREFIX) else { return Mark::None };
    let mut words = rest.split(' ');
    if words.next() != Some(VERSION) {
        return Mark::Idem(None);
    }
    let scopes = words.nth(1).map(|scopes| scopes.split(',').map(str::to_owned).collect());
    Mark::Idem(scopes)
}

impl Mark {
    /// Whether it was made by idem.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Idem(_))
    }

    /// Whether it names one of these scopes. One that cannot be read is taken to name all.
    pub(crate) fn names_any(&self, scopes: &[&str]) -> bool {
        match self {
            Self::None => false,
            Self::Idem(None) => true,
            Self::Idem(Some(words)) => words
                .iter()
                .any(|word| scopes.iter().any(|scope| word == scope || *word == digest(scope))),
        }
    }
}

/// `#` and 64 bits of FNV-1a. A collision makes a start careful, not wrong.
fn digest(scope: &str) -> String {
    let hash = scope.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("#{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_its_scopes() {
        let mark = read(&write(Uuid::nil(), &["bill", "audit"]));
        assert!(mark.is_ours());
        assert!(mark.names_any(&["other", "audit"]));
        assert!(!mark.names_any(&["other"]));
    }

    #[test]
    fn many_scopes_fit_a_commits_metadata() {
        let scopes: Vec<String> = (0..150).map(|n| format!("{n}-{}", "x".repeat(200))).collect();
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let text = write(Uuid::nil(), &scopes);
        assert!(text.len() < 4096, "{}", text.len());
        assert!(read(&text).names_any(&[scopes[149]]));
        assert!(!read(&text).names_any(&["other"]));
    }

    #[test]
    fn other_peoples_metadata_is_no_mark() {
        assert_eq!(read(""), Mark::None);
        assert_eq!(read("NO_METADATA"), Mark::None);
        assert!(read("idem/7 what?").names_any(&["any"]));
    }
}
