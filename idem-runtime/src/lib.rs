//! The contract, the pipeline and the runner of idem.
//!
//! Users depend on the facade, `idem-kafka`, which re-exports what they need. This crate is for
//! those who write a store or a source of their own.
//!
//! Not here: any database (see `idem-postgres`, `idem-sqlite`) and, without the feature `kafka`,
//! any broker.

#![cfg_attr(
    not(feature = "kafka"),
    expect(
        dead_code,
        reason = "what works lanes is built and tested without Kafka, and run with it"
    )
)]

mod answer;
mod backoff;
mod broadcast;
#[cfg(feature = "kafka")]
mod builder;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod context;
mod dead_letter;
mod edit;
mod effects;
mod error;
mod event;
mod failure;
mod format;
mod group;
mod handler;
#[cfg(feature = "kafka")]
mod kafka;
mod key;
pub mod lane;
mod letters;
#[cfg(test)]
mod logged;
mod marker;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod migration;
mod outcome;
mod outside;
pub mod packed;
mod pipeline;
mod policy;
mod process;
#[cfg(test)]
mod random;
#[cfg_attr(not(feature = "avro"), path = "registry/off.rs")]
mod registry;
mod replay;
#[cfg(any(feature = "kafka", test))]
mod retired;
mod routing;
#[cfg(feature = "kafka")]
mod run;
mod scope;
mod state;
pub mod store;
mod unmarked;
mod work;

pub use answer::{Answer, Answers, Slot};
pub use broadcast::Broadcast;
#[cfg(feature = "kafka")]
pub use builder::{Builder, Current, NoStore, With};
pub use context::Context;
pub use dead_letter::{
    Cause, DeadLetter, FailureClass, LetterAction, LetterFilter, LetterNote, LetterState,
    MAX_ERROR_LEN, NewLetter, REOPENED_BY, REOPENED_NOTE,
};
pub use edit::LetterEdit;
pub use effects::{Begun, Probed, UnknownEnd};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use event::{DecodeError, Event, Headers, TimestampKind};
pub use failure::{Failure, Permanent, permanent};
pub use format::{CloudEvent, Encoded, Format, Schema, SchemaOf, Schemas, decode_json};
#[cfg(feature = "avro")]
pub use format::{decode_avro, schema_of_avro};
#[cfg(feature = "protobuf")]
pub use format::{decode_protobuf, decode_protobuf_registry};
pub use group::Serves;
pub use handler::{
    Call, EventOf, Handler, Input, KeySource, KeyedByEvent, Many, One, Param, Single, Subscriber,
};
#[cfg(feature = "kafka")]
pub use kafka::Kafka;
pub use key::{Content, IntoKey, Key, KeyError, KeyPart, Maybe, NeverMissing};
pub use letters::DeadLetters;
pub use marker::{Fingerprint, Marker, MarkerMode, MarkerState, Origin};
pub use outcome::{Decision, Outcome};
pub use pipeline::policy::{DatabaseLost, LayoutChanged, LogChanged, Stale, Start};
pub use pipeline::stats::Counts;
pub use policy::{
    IsolationLevel, Markers, MissingKey, OnFailure, PayloadCheck, Policy, Retry, Window,
};
pub use process::{Processor, answer, process};
#[cfg(feature = "avro")]
pub use registry::SchemaRegistry;
pub use replay::{Replay, ReplayReport};
pub use routing::{Correlation, EventType, EventTypes, Unmatched};
#[cfg(feature = "kafka")]
pub use run::{Idem, RunHandle};
pub use scope::{MAX_SCOPE_LEN, Registration, Retired, ScopePlan, ScopeRow};
pub use state::{Needs, State, States};
pub use store::{Lends, Store};
