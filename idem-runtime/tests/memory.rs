//! The store in memory keeps the contract it is used to test.

use idem_runtime::Failure;
use idem_runtime::conformance::{Harness, Misbehaviour};
use idem_runtime::memory::{Memory, MemoryConnection};

struct InMemory(Memory);

impl Harness for InMemory {
    type Store = Memory;

    async fn unmigrated() -> Self {
        Self(Memory::unmigrated())
    }

    async fn migrate(&self) {
        self.0.migrate();
    }

    fn store(&self) -> &Memory {
        &self.0
    }

    async fn write(connection: &mut MemoryConnection, effect: &str) -> Result<(), Failure> {
        Ok(connection.insert("effects", effect).await?)
    }

    async fn effects(&self) -> Vec<String> {
        self.0.rows("effects")
    }

    async fn misbehave(connection: &mut MemoryConnection, how: Misbehaviour) -> bool {
        let _ = match how {
            Misbehaviour::Commit => connection.commit_behind_back().await,
            Misbehaviour::Rollback => connection.rollback_behind_back().await,
            Misbehaviour::SwallowError => connection.fail_statement().await,
            _ => return false,
        };
        true
    }
}

idem_runtime::conformance!(InMemory);
