//! The contract, the pipeline and the runner of idem.
//!
//! Users depend on the facade, `idem-kafka`, which re-exports what they need. This crate is for
//! those who write a store or a source of their own.
//!
//! Not here: any database (see `idem-postgres`, `idem-sqlite`) and, without the feature `kafka`,
//! any broker.

mod backoff;
mod context;
mod error;
mod event;
mod handler;
mod key;
pub mod lane;
mod marker;
mod outcome;
mod process;
mod scope;
mod state;
pub mod store;

pub use context::Context;
pub use error::{BoxError, Error, ErrorKind, Failure, Result};
pub use event::{DecodeError, Event, Headers, decode_json};
pub use handler::{
    Call, EventOf, Handler, Input, KeySource, KeyedByEvent, One, Param, Serves, Subscriber,
};
pub use key::{IntoKey, Key, KeyError, KeyPart, NeverMissing};
pub use marker::{Marker, MarkerMode, MarkerState, Origin};
pub use outcome::{Decision, Outcome};
pub use process::{Processor, process};
pub use scope::{MAX_SCOPE_LEN, Registration, ScopePlan, ScopeRow};
pub use state::{Needs, State, States};
pub use store::{Lends, Store};
