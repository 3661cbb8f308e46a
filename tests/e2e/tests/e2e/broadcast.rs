//! A group in which each instance reads everything.

use idem_e2e_tests::{Settings, World, until};
use sqlx::AssertSqlSafe;

use crate::BIN;

/// The settings of an instance.
fn instance(world: &World, name: &str) -> Settings {
    let mut settings = world.settings.clone();
    settings.broadcast = Some(name.to_owned());
    settings.start = Some("earliest".into());
    settings.check_interval_ms = Some(100);
    settings
}

/// The same, which forgets those that are silent for a moment.
fn forgetful(world: &World, name: &str) -> Settings {
    let mut settings = instance(world, name);
    settings.forget_after_ms = Some(2_000);
    settings
}

/// How many markers an instance has, and how many lanes.
async fn kept(world: &World, name: &str) -> (i64, i64) {
    let schema = &world.settings.schema;
    let sql = format!(
        "select (select count(*) from {schema}.markers where scope = 'bill@{name}')
                    + (select coalesce(sum(digests), 0)::bigint from {schema}.packs
                       where scope = 'bill@{name}'),
                (select count(*) from {schema}.lanes where group_name = '{}.{name}')",
        world.settings.group
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&world.db).await.unwrap()
}

/// How many invoices there are, and for how many different orders; the handler's own scope is the
/// same in each instance.
async fn until_invoices(world: &World, invoices: i64, orders: i64) {
    until(&format!("{invoices} invoices"), async || {
        let now = world.invoices().await;
        assert!(now.0 <= invoices, "{now:?}");
        now == (invoices, orders)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_instance_has_its_own_copy_with_duplicates_and_kills() {
    let world = World::new("copies", 3, BIN).await;
    let orders = world.orders(0, 500);
    world.produce(&orders);
    world.produce(&orders[..200]);
    let (one, two) = (instance(&world, "one"), instance(&world, "two"));
    let mut first = world.start(&one);
    let mut second = world.start(&two);
    until("the second has begun", async || kept(&world, "two").await.0 > 0).await;
    second.kill();
    let mut second = world.start(&two);
    until_invoices(&world, 1_000, 500).await;
    // A packed duplicate is kept at its own place, too.
    let each = if world.settings.markers == "packed" { 700 } else { 500 };
    assert_eq!((kept(&world, "one").await, kept(&world, "two").await), ((each, 3), (each, 3)));
    assert!(first.terminate().success());
    // What comes while an instance is away is there for it when it is back.
    world.produce(&world.orders(500, 100));
    until_invoices(&world, 1_100, 600).await;
    let mut first = world.start(&one);
    until_invoices(&world, 1_200, 600).await;
    assert!(first.terminate().success() && second.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_gone_for_too_long_is_forgotten_and_begins_anew() {
    let world = World::new("forgotten", 2, BIN).await;
    world.produce(&world.orders(0, 100));
    let (one, two) = (forgetful(&world, "one"), forgetful(&world, "two"));
    let mut first = world.start(&one);
    let mut second = world.start(&two);
    until_invoices(&world, 200, 100).await;
    assert!(first.terminate().success());
    until("it is forgotten", async || kept(&world, "one").await == (0, 0)).await;
    assert!(second.log().contains("it begins anew if it comes back"));
    assert_eq!(kept(&world, "two").await, (100, 2), "nobody else is");

    let mut first = world.start(&one);
    until_invoices(&world, 300, 100).await;
    assert_eq!(kept(&world, "one").await, (100, 2));
    assert!(first.terminate().success() && second.terminate().success());
}
