//! Packed markers: what stays in the file.

mod common;

use std::time::Duration;

use common::{Fixture, held, lane, owner};
use idem_runtime::lane::{LogIdentity, Position};
use idem_runtime::packed::{Digest, Floor, NewPack, NewRun, Pack, WindowId};
use idem_runtime::store::PackedMarkers as _;
use idem_runtime::store::{Instance, Opening, Seal, Sealed, Terms, Writer};
use idem_runtime::{MarkerMode, Registration, Store as _};
use sqlx::Executor as _;

#[tokio::test]
async fn a_forgotten_instance_leaves_no_packed_markers() {
    let (fixture, store) = Fixture::with_store().await;
    let id = lane();
    let seen = Instance { broadcast: "fleet", group: &id.group, forget_after: None };
    store.keep_instance(&seen).await.unwrap();
    let scopes = [("bill", MarkerMode::Packed)];
    let registration = Registration {
        group: &id.group,
        scopes: &scopes,
        windows: &[],
        adopt: &[],
        retire: &[],
        broadcast: Some("fleet"),
    };
    store.register(&registration).await.unwrap();
    let lanes = [(0, Position::at(0))];
    let identity = LogIdentity::default();
    let opening =
        Opening { group: &id.group, topic: &id.topic, identity: &identity, lanes: &lanes };
    store.open_topic(&opening).await.unwrap();
    let held = store.take(&id, &owner("a")).await.unwrap().unwrap().held();
    let writer = Writer::Lane(&held);
    let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
    let digest = Digest(7 << 100);
    let data = Pack { entries: vec![(1, digest)], spans: Vec::new() }.encode();
    let packs = ["bill", "another"].map(|scope| NewPack {
        scope,
        partitions: 1,
        first_offset: 1,
        last_offset: 1,
        count: 1,
        every_slice: false,
        data: &data,
    });
    assert!(store.pack(&mut tx, &held, &packs).await.unwrap().is_some());
    let seal = Seal { position: Position::at(2), offset_scopes: &[] };
    assert_eq!(store.seal(&mut tx, &writer, Some(&seal)).await.unwrap(), Sealed::Yes);
    store.commit(tx).await.unwrap();
    let window = WindowId { lane: held.number, scope: "bill", slice: None };
    let row = store.packs(&window, 0, 9).await.unwrap()[0].id;
    let run = NewRun { id: 7, window, count: 1, filter: &[], digests: &digest.to_bytes() };
    assert!(store.add_run(&held, &[row], &run).await.unwrap());
    assert!(
        store
            .forget_packs(&held, "bill", &[], Some(Floor { offset: 1, is_early: false }))
            .await
            .unwrap()
    );

    // Of a lane of somebody else.
    fixture
        .run(
            "insert into idem_packs (lane_id, scope, first_offset, last_offset, first_at, last_at,
                 digests, log, partitions, slices, slice, data)
             values (99, 'another', 0, 0, 0, 0, 0, 0, 1, 0, 0, x'')",
        )
        .await;

    fixture.run("update idem_instances set seen_at = 0").await;
    let after = Some(Duration::from_secs(60));
    let look = Instance { broadcast: "fleet", group: "fleet.b", forget_after: after };
    assert_eq!(store.keep_instance(&look).await.unwrap(), [&*id.group]);
    assert_eq!(fixture.number("select lane_id from idem_packs").await, 99);
    for table in ["runs", "run_blocks", "windows"] {
        assert_eq!(
            fixture.number(&format!("select count(*) from idem_{table}")).await,
            0,
            "{table}"
        );
    }
}

#[tokio::test]
async fn a_lane_that_has_packed_markers_is_not_deleted_by_hand() {
    let (fixture, store) = Fixture::with_store().await;
    let (id, identity) = (lane(), LogIdentity::default());
    let lanes = [(0, Position::at(0))];
    let opening =
        Opening { group: &id.group, topic: &id.topic, identity: &identity, lanes: &lanes };
    store.open_topic(&opening).await.unwrap();
    let held = store.take(&id, &owner("a")).await.unwrap().unwrap().held();
    let writer = Writer::Lane(&held);
    let mut tx = store.begin(&writer, &Terms::default()).await.unwrap();
    let data = Pack { entries: vec![(1, Digest(1))], spans: Vec::new() }.encode();
    let pack = NewPack {
        scope: "bill",
        partitions: 1,
        first_offset: 1,
        last_offset: 1,
        count: 1,
        every_slice: false,
        data: &data,
    };
    assert!(store.pack(&mut tx, &held, &[pack]).await.unwrap().is_some());
    let seal = Seal { position: Position::at(2), offset_scopes: &[] };
    assert_eq!(store.seal(&mut tx, &writer, Some(&seal)).await.unwrap(), Sealed::Yes);
    store.commit(tx).await.unwrap();
    let refused = fixture.outside().await.execute("delete from idem_lanes").await.unwrap_err();
    assert!(refused.to_string().contains("the lane has packed markers"), "{refused}");
    assert_eq!(fixture.number("select count(*) from idem_lanes").await, 1);
    // Who means that everything is done again.
    fixture.run("delete from idem_packs").await;
    fixture.run("delete from idem_lanes").await;
    assert_eq!(fixture.number("select count(*) from idem_lanes").await, 0);
}

#[tokio::test]
async fn nothing_more_is_deleted_of_a_scope_that_is_registered_again_while_it_is_forgotten() {
    for comes_back in [false, true] {
        let (fixture, store) = Fixture::with_store().await;
        held(&store).await;
        fixture
            .run(
                "insert into idem_scopes (scope, mode, group_name, state, retired_at)
                 values ('bill', 'packed', 'billing', 'retired', 0);
                 with recursive number (n) as (select 1 union all select n + 1 from number limit 1200)
                 insert into idem_packs
                     (lane_id, scope, first_offset, last_offset, first_at, last_at, digests, log,
                      partitions, slices, slice, data)
                 select lane_id, 'bill', n, n, 0, 0, 1, 0, 1, 0, 0, x'00' from idem_lanes, number",
            )
            .await;
        if comes_back {
            fixture
                .run(
                    "create trigger comes_back after delete on idem_packs begin
                         update idem_scopes
                         set state = 'active', retired_at = null, forgotten_at = null;
                     end",
                )
                .await;
        }
        let forgotten = store.forget_retired("billing", Some(Duration::ZERO)).await.unwrap();
        let left = fixture.number("select count(*) from idem_packs").await;
        match comes_back {
            false => assert_eq!((forgotten, left), (vec!["bill".to_owned()], 0)),
            true => {
                assert_eq!((forgotten, left), (Vec::new(), 700), "what one transaction deletes")
            }
        }
    }
}
