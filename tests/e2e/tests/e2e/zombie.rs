//! A consumer that is frozen until its partitions are another's, and then wakes up.

use std::time::Instant;

use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::{Settings, World, until};

use crate::BIN;

/// Freezes an owner in the middle of a batch, lets another take over and finish, wakes the first.
async fn a_frozen_owner_is_fenced(name: &str, handler: &str) {
    let world = World::new(name, 2, BIN).await;
    let settings = Settings { max_batch: 50, ..world.settings.handlers(&[handler]) };
    let mut orders = world.orders(0, 400);
    for (index, order) in orders.iter_mut().enumerate() {
        // One in the middle of each partition stops its batch at the gate.
        order.act = if index == 100 || index == 101 { Act::Gate } else { Act::Plain };
    }
    let gate = world.close_gate().await;
    let spread = orders.iter().enumerate().map(|(index, it)| (Some((index % 2) as i32), it));
    world.kafka.produce(&world.topic, spread);

    let frozen = world.start(&settings.instance("frozen"));
    until("both lanes are at the gate", async || world.at_gate().await == 2).await;
    frozen.freeze();
    let since = Instant::now();

    let mut owner = world.start(&settings.instance("owner"));
    // The new owner comes to the gate too; in marker mode its claims met the frozen one's.
    until("the new owner is at the gate", async || {
        let log = owner.log();
        log.matches("lane taken").count() == 2 && new_owner_is_at_gate(&world).await
    })
    .await;
    println!("{handler}: the new owner was at the frozen one's event after {:?}", since.elapsed());
    gate.commit().await.unwrap();
    world.until_invoiced(400).await;
    world.until_drained().await;

    frozen.wake();
    until("the frozen one found out", async || {
        let log = frozen.log();
        log.contains("another owner took the lane") || log.contains("revoked")
    })
    .await;
    // More work, so that whatever the woken one still believes meets the database.
    let more = world.orders(400, 100);
    world.produce(&more);
    world.until_invoiced(500).await;
    world.until_drained().await;
    assert!(owner.terminate().success());
    assert_eq!(world.invoices().await, (500, 500));
}

/// Whether a transaction of the lanes' present owner waits at the gate, and none that is older.
async fn new_owner_is_at_gate(world: &World) -> bool {
    let sql = format!(
        "select count(*) from pg_locks k join pg_stat_activity a using (pid)
         join {}.lanes l on a.application_name like 'idem lane %' and a.application_name like '%' || replace(l.token::text, '-', '')
         where k.locktype = 'advisory' and not k.granted
         and ((k.classid::bigint << 32) | k.objid::bigint) = $1",
        world.settings.schema
    );
    let waiting: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(world.settings.gate)
        .fetch_one(&world.db)
        .await
        .unwrap();
    waiting == 2
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_neither_holds_up_the_new_one_nor_writes_when_it_wakes() {
    a_frozen_owner_is_fenced("zombie", "bill").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_in_offset_mode_is_fenced_at_its_seal() {
    a_frozen_owner_is_fenced("zombie_offset", "bill_by_offset").await;
}
