//! Kafka handlers whose database effects happen exactly once.

#[doc(inline)]
pub use idem_macros::idempotent;
#[doc(inline)]
pub use idem_runtime::{
    BoxError, Context, DecodeError, Error, ErrorKind, Event, EventOf, Failure, Handler, Headers,
    IntoKey, Key, KeyError, KeyPart, KeySource, KeyedByEvent, Marker, MarkerMode, MarkerState, One,
    Origin, Outcome, Processor, Result, State, Store, Subscriber,
};
#[cfg(feature = "kafka")]
#[doc(inline)]
pub use idem_runtime::{
    Builder, Counts, DatabaseLost, Idem, Kafka, LogChanged, RunHandle, Serves, Start,
};

#[doc(hidden)]
pub mod __private;

/// The PostgreSQL store.
#[cfg(feature = "postgres")]
pub mod postgres {
    #[doc(inline)]
    pub use idem_postgres::*;
}

/// The SQLite store.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    #[doc(inline)]
    pub use idem_sqlite::*;
}
