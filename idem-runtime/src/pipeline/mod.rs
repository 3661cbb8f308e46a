//! The pipeline: from a queue of events to committed effects.
//!
//! It knows neither Kafka nor SQL. A [`Source`](source::Source) delivers events into a lane's
//! [`Queue`](queue::Queue); a [`Store`](crate::Store) keeps what is done. Read it in this order:
//!
//! 1. [`attempt`]: one transaction, as a sentence of named steps;
//! 2. [`isolate`]: what is tried next when an attempt failed;
//! 3. [`lane`]: the life of a lane, from taking it to leaving it;
//! 4. [`start`]: where a lane starts, as a table.

pub(crate) mod attempt;
pub(crate) mod batch;
pub(crate) mod care;
pub(crate) mod claim;
pub(crate) mod failed;
pub(crate) mod gone;
pub(crate) mod handle;
pub(crate) mod holding;
pub(crate) mod isolate;
pub(crate) mod judge;
pub(crate) mod lane;
pub(crate) mod letters;
pub(crate) mod look;
pub(crate) mod low_water;
pub(crate) mod mark;
pub(crate) mod merge;
pub(crate) mod open;
pub(crate) mod outside;
pub(crate) mod packing;
mod plan;
pub(crate) mod policy;
pub(crate) mod queue;
pub(crate) mod release;
pub(crate) mod report;
pub(crate) mod reuse;
pub(crate) mod schemas;
pub(crate) mod slices;
pub(crate) mod source;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod take;
pub(crate) mod tend;
pub(crate) mod turns;
pub(crate) mod watch;
pub(crate) mod widen;
pub(crate) mod windows;
pub(crate) mod work;

#[cfg(test)]
mod tests;
