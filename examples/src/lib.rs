//! What the examples share: the orders, a producer that repeats itself, a broker in the process,
//! and the table at the end.
//!
//! Nothing here is needed to use idem; read the examples, not this.

#![expect(clippy::print_stdout, reason = "examples talk to the person who runs them")]

pub mod mock;
pub mod orders;
pub mod table;
