//! Kafka handlers whose database effects happen exactly once.
//!
//! Kafka delivers at least once: retries, restarts, rebalances, offset rewinds and producers that
//! send again hand a handler the same event twice. Annotate the handler, and every effect that it
//! writes through the transaction it is given happens exactly once for each (scope, key), for as
//! long as the markers are kept, whatever is killed, and whenever.
//!
//! ```no_run
//! # #[cfg(all(feature = "kafka", feature = "postgres"))] mod example {
//! use idem::{Builder, Kafka, idempotent, postgres::Postgres};
//! use sqlx::PgConnection;
//!
//! #[derive(serde::Deserialize)]
//! struct OrderPlaced { event_id: String, order_id: i64, cents: i64 }
//!
//! #[idempotent(key = "event_id", store = "postgres", topic = "orders")]
//! async fn bill(event: OrderPlaced, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
//!     sqlx::query("insert into invoices (order_id, cents) values ($1, $2)")
//!         .bind(event.order_id).bind(event.cents).execute(tx).await?;
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> idem::Result<()> {
//!     let store = Postgres::connect("postgres://localhost/shop").await?;
//!     store.migrate().await?;
//!     let app = Builder::new()
//!         .kafka(Kafka::new("localhost:9092").instance("billing-1"))
//!         .group("billing").store(store).handler::<bill>()
//!         .build()?;
//!     app.run().await?; // until SIGTERM or SIGINT
//!     Ok(())
//! }
//! # }
//! ```
//!
//! # Where to look
//!
//! - [`idempotent`]: the attribute, each of its words, what a handler can be.
//! - `Builder`, `Kafka`: groups, settings, running (feature `kafka`).
//! - [`Processor`], and `process` beside each handler: the same without Kafka.
//! - [`Store`]: `process_if_new`, `is_processed` and `mark_processed`, for code without a handler.
//! - `postgres::Postgres`, `sqlite::Sqlite`: the stores, each behind the feature of its name.
//! - [`CloudEvent`], [`Format`], `SchemaRegistry` (feature `avro`): events in other formats than JSON.
//! - [`permanent`], [`Retry`], [`OnFailure`]: what becomes of an event that fails.
//! - [`Error`], [`ErrorKind`]: what can go wrong.
//!
//! # Features
//!
//! | feature | on by default | what it brings |
//! |---|---|---|
//! | `kafka` | yes | reading from Kafka; builds librdkafka (a C compiler and make) |
//! | `kafka-ssl` | | TLS and SASL/SCRAM to the broker; needs OpenSSL's headers |
//! | `postgres` | yes | the PostgreSQL store |
//! | `sqlite` | | the SQLite store |
//! | `protobuf` | | events in Protobuf, by the crate `prost` 0.14 |
//! | `avro` | | events in Avro, and the client of a schema registry (HTTP with rustls) |
//!
//! # What is not promised
//!
//! Effects outside the transaction (a request, an e-mail) happen at least once: give the remote
//! service the key ([`Context::key`]), if it understands one.

#[doc = include_str!("../docs/event_types.md")]
#[doc(inline)]
pub use idem_macros::EventTypes;
#[doc = include_str!("../docs/idempotent.md")]
#[doc = ""]
#[doc = include_str!("../docs/function.md")]
#[doc(inline)]
pub use idem_macros::idempotent;
#[doc(inline)]
pub use idem_runtime::{
    Answer, Answers, Begun, BoxError, Cause, CloudEvent, Content, Context, Correlation, DeadLetter,
    DeadLetters, DecodeError, Encoded, Error, ErrorKind, Event, EventOf, EventType, EventTypes,
    Failure, FailureClass, Fingerprint, Format, Handler, Headers, IntoKey, IsolationLevel, Key,
    KeyError, KeyPart, KeySource, KeyedByEvent, LetterAction, LetterEdit, LetterFilter, LetterNote,
    LetterState, Many, Marker, MarkerMode, MarkerState, Markers, MissingKey, OnFailure, One,
    Origin, Outcome, PayloadCheck, Permanent, Policy, Probed, Processor, Replay, ReplayReport,
    Result, Retry, SchemaOf, Schemas, Serves, State, Store, Subscriber, TimestampKind, UnknownEnd,
    Window, decode_json, permanent,
};
#[cfg(feature = "avro")]
#[doc(inline)]
pub use idem_runtime::{SchemaRegistry, decode_avro, schema_of_avro};
#[cfg(feature = "protobuf")]
#[doc(inline)]
pub use idem_runtime::{decode_protobuf, decode_protobuf_registry};
// What only the runner needs.
#[cfg(feature = "kafka")]
#[doc(inline)]
pub use idem_runtime::{
    Broadcast, Builder, Counts, DatabaseLost, Idem, Kafka, LayoutChanged, LogChanged, RunHandle,
    Stale, Start, Unmatched,
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

/// The README's example is compiled, too.
#[cfg(all(doctest, feature = "kafka", feature = "postgres"))]
#[doc = include_str!("../../README.md")]
mod readme {}

/// So are those of the page on failures.
#[cfg(all(doctest, feature = "kafka", feature = "postgres"))]
#[doc = include_str!("../../docs/failure.md")]
mod failure_page {}
