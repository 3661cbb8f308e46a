//! What the end-to-end tests share: a world of its own for each test, and a consumer that can be
//! run in the test's process or in one of its own, to be killed.
//!
//! Not here: the services themselves (`idem-test-services`) and the tests (`tests/`).

#![expect(clippy::expect_used, reason = "a test fails by panicking, and so do its helpers")]

pub mod beside;
pub mod handlers;
pub mod kafka;
pub mod process;
pub mod registry;
pub mod routed;
pub mod settings;
pub mod world;

pub use handlers::Order;
pub use process::ConsumerProcess;
pub use registry::Registry;
pub use settings::{Said, Settings};
pub use world::{World, until};
