//! The Kafka source: the only place that names rdkafka.
//!
//! One consumer per group, read by one thread ([`reader`]) that does nothing else, so that a slow
//! handler never makes it miss a poll. Partitions are assigned paused; a lane that was taken seeks
//! to the position the database has and only then lets events flow ([`source`]).

mod blocks;
mod context;
mod fetched;
mod ffi;
mod flow;
mod forward;
mod keeper;
mod lists;
#[cfg(test)]
mod mock;
mod reader;
mod settings;
mod source;

pub(crate) use forward::Forwarder;
pub(crate) use keeper::{Keeper, Keeping};
pub(crate) use reader::Reader;
pub use settings::Kafka;
