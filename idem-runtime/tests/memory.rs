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

mod packed {
    //! What a test sees of packed markers.
    #![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

    use std::time::Duration;

    use idem_runtime::lane::{Held, LaneId, LogIdentity, Owner, Position};
    use idem_runtime::memory::{Memory, Point};
    use idem_runtime::packed::{DigestKey, NewPack, Pack, WindowId};
    use idem_runtime::store::{Instance, Opening, PackedMarkers as _, Seal, Sealed, Terms, Writer};
    use idem_runtime::{ErrorKind, Key, MarkerMode, Registration, Store as _};

    const GROUP: &str = "fleet.a";

    async fn held(store: &Memory) -> Held {
        held_by(store, None).await
    }

    async fn held_by(store: &Memory, broadcast: Option<&str>) -> Held {
        let scopes = [("bill", MarkerMode::Packed)];
        let registration = Registration {
            group: GROUP,
            scopes: &scopes,
            windows: &[],
            adopt: &[],
            retire: &[],
            broadcast,
        };
        store.register(&registration).await.unwrap();
        let lanes = [(0, Position::at(0))];
        let identity = LogIdentity::default();
        let opening = Opening { group: GROUP, topic: "t", identity: &identity, lanes: &lanes };
        store.open_topic(&opening).await.unwrap();
        let id = LaneId { group: GROUP.into(), topic: "t".into(), partition: 0 };
        let dead_after = Duration::from_secs(60);
        let owner = Owner { id: uuid::Uuid::new_v4(), name: "a".to_owned(), dead_after };
        store.take(&id, &owner).await.unwrap().unwrap().held()
    }

    async fn pack(store: &Memory, held: &Held) -> Result<(), ErrorKind> {
        let digest = DigestKey::new([7; 16]).digest(&Key::new("e1").unwrap());
        let data = Pack { entries: vec![(1, digest)], spans: Vec::new() }.encode();
        let pack = NewPack {
            scope: "bill",
            partitions: 1,
            first_offset: 1,
            last_offset: 1,
            count: 1,
            every_slice: false,
            data: &data,
        };
        let writer = Writer::Lane(held);
        let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
        store.pack(&mut tx, held, &[pack]).await.map_err(|error| error.kind())?;
        let seal = Seal { position: Position::at(2), offset_scopes: &[] };
        assert_eq!(store.seal(&mut tx, &writer, Some(&seal)).await.unwrap(), Sealed::Yes);
        store.commit(tx).await.unwrap();
        Ok(())
    }

    #[tokio::test]
    async fn a_database_that_went_back_has_lost_its_latest_packs() {
        let store = Memory::new();
        let held = held(&store).await;
        let before = store.snapshot();
        pack(&store, &held).await.unwrap();
        assert_eq!((store.pack_rows("bill").len(), store.counts().packs), (1, 1));
        store.restore(&before);
        assert!(store.pack_rows("bill").is_empty());
        let window = WindowId { lane: held.number, scope: "bill", slice: None };
        assert!(store.packs(&window, 0, 9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_pack_fails_where_a_test_wants_it() {
        let store = Memory::new();
        let held = held(&store).await;
        store.faults().fail(Point::Pack, ErrorKind::Transient);
        assert_eq!(pack(&store, &held).await, Err(ErrorKind::Transient));
        pack(&store, &held).await.unwrap();
    }

    #[tokio::test]
    async fn a_forgotten_instance_leaves_no_packs() {
        let store = Memory::new();
        let seen = Instance { broadcast: "fleet", group: GROUP, forget_after: None };
        store.keep_instance(&seen).await.unwrap();
        let held = held_by(&store, Some("fleet")).await;
        pack(&store, &held).await.unwrap();
        let after = Some(Duration::ZERO);
        let look = Instance { broadcast: "fleet", group: "fleet.b", forget_after: after };
        while store.keep_instance(&look).await.unwrap() != [GROUP] {
            // Two moments of the clock can be one.
            tokio::task::yield_now().await;
        }
        assert!(store.pack_rows("bill").is_empty());
    }
}
