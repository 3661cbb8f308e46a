//! The schemas of a registry that a batch of events is read with.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::event::Event;

/// Finds the id of the schema that an event was written with; `None` when it has none, which
/// decoding explains.
pub type SchemaOf = fn(&Event) -> Option<u32>;

/// The schemas that were asked for before events are decoded. Empty for formats that need none.
///
/// They are those of one batch and stay the same while it is worked, however often.
#[derive(Clone, Default)]
pub struct Schemas(Option<Arc<HashMap<u32, Known>>>);

/// What a registry says of an id: the schema, or why there is none that could be used.
pub(crate) type Known = Result<Arc<Schema>, Arc<str>>;

/// A schema of a registry.
pub struct Schema {
    #[cfg(feature = "avro")]
    pub(super) avro: apache_avro::Schema,
    /// What it refers to.
    #[cfg(feature = "avro")]
    pub(super) references: Vec<apache_avro::Schema>,
}

impl Schemas {
    /// No schemas.
    pub fn none() -> Self {
        Self::default()
    }

    #[cfg(feature = "avro")]
    pub(crate) fn of(schemas: HashMap<u32, Known>) -> Self {
        Self(Some(Arc::new(schemas)))
    }

    #[cfg(feature = "avro")]
    pub(crate) fn get(&self, id: u32) -> Option<&Known> {
        self.0.as_ref()?.get(&id)
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.0.iter().flat_map(|schemas| schemas.keys());
        f.debug_set().entries(ids).finish()
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}
