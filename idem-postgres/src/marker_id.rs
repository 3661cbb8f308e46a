//! The id of a marker: what is unique in the table, in place of two texts.
//!
//! 16 bytes cost the index less than half of what a scope and a key do. Two keys with one id would take
//! a search of some 2^64 steps by somebody who can choose both.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The ids of a scope's markers.
pub(crate) struct Ids(Sha256);

impl Ids {
    /// Of this scope.
    pub(crate) fn of(scope: &str) -> Self {
        // Neither a scope nor a key has a zero byte.
        Self(Sha256::new().chain_update(scope).chain_update([0]))
    }

    /// The id of the marker of this key; as the function `marker_id` of the schema has it.
    pub(crate) fn id(&self, key: &str) -> Uuid {
        let digest = self.0.clone().chain_update(key).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Uuid::from_bytes(id)
    }
}

/// The id of the marker of a key in a scope.
pub(crate) fn marker_id(scope: &str, key: &str) -> Uuid {
    Ids::of(scope).id(key)
}

/// The ids of these markers. Those of one scope are neighbours as a rule.
pub(crate) fn marker_ids<'a>(markers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Uuid> {
    let mut ids: Option<(&str, Ids)> = None;
    let id = |(scope, key)| match &ids {
        Some((of, ids)) if *of == scope => ids.id(key),
        _ => ids.insert((scope, Ids::of(scope))).1.id(key),
    };
    markers.into_iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_a_scope_and_a_key() {
        let ids = marker_ids([("bill", "1"), ("bill", "2"), ("bil", "l1"), ("bill", "1")]);
        assert_eq!(ids[0], ids[3]);
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        // sha256("bill\0" "1")
        assert_eq!(ids[0], marker_id("bill", "1"));
    }
}
