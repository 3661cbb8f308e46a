//! What is kept beside markers: results, fingerprints, attempts whose effects are outside.

use std::time::{Duration, Instant};

use idem::{FailureClass, Outcome, Processor};
use idem_e2e_tests::beside::{Payments, Receipt, bill_checked, charge_never_twice};
use idem_e2e_tests::{Said, World};

use tokio::task::JoinSet;

use crate::BIN;

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_key_is_a_dead_letter_and_a_call_is_answered_with_what_the_lane_returned() {
    let world = World::new("beside", 2, BIN).await;
    let orders = world.orders(0, 300);
    world.produce(&orders);
    // Delivered again, some of them with another amount.
    let mut again = orders.clone();
    for order in again.iter_mut().filter(|it| it.order_id % 30 == 7) {
        order.cents += 1_000_000;
    }
    world.produce(&again);
    let settings = world.settings.handlers(&["bill_checked"]);
    let mut consumer = world.start_working(&settings).await;
    world.until_drained().await;
    assert!(consumer.terminate().success());
    assert_eq!(world.invoices().await, (300, 300));
    let letters = world.letters().await;
    assert_eq!(letters.len(), 10);
    for letter in letters {
        let cause = letter.cause.unwrap();
        assert_eq!(cause.class, FailureClass::KeyReuse);
        assert!(cause.error.contains(&format!("topic {}, partition", world.topic)), "{cause:?}");
    }

    let store = settings.store().await.unwrap();
    let answer = bill_checked::process(&store, orders[42].clone()).await.unwrap();
    let Outcome::Duplicate(Some(Receipt { cents, number: 1..=300 })) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(cents, orders[42].cents);
    let first = bill_checked::process(&store, world.orders(900, 1).remove(0)).await.unwrap();
    assert_eq!(first, Outcome::Processed(Receipt { cents: 900, number: 301 }));
}

/// Kills the consumer again and again while it charges, and lets the last one finish.
async fn charged(name: &str, handler: &str) -> (World, i64, i64) {
    const ORDERS: i64 = 1_500;
    let world = World::new(name, 4, BIN).await;
    sqlx::query("create table charges (event_id text not null)").execute(&world.db).await.unwrap();
    let orders = world.orders(0, ORDERS);
    world.produce(&orders);
    world.produce(&orders[..200]);
    let mut settings = world.settings.instance("one").handlers(&[handler]);
    settings.policy = Said { attempts: Some(3), ..Said::default() };
    for round in 1..=8 {
        let before = world.positions().await;
        let mut consumer = world.start(&settings);
        let deadline = Instant::now() + Duration::from_secs(10);
        while world.positions().await < before + 40 * round && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        consumer.kill();
    }
    let mut consumer = world.start_working(&settings).await;
    world.until_drained().await;
    assert!(consumer.terminate().success());
    let charges = "select count(*), count(distinct event_id) from charges";
    let (all, distinct): (i64, i64) = sqlx::query_as(charges).fetch_one(&world.db).await.unwrap();
    assert_eq!(all, distinct, "somebody was charged twice");
    (world, ORDERS, distinct)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_probe_effects_outside_happen_once_however_often_the_process_is_killed() {
    let (world, orders, charges) = charged("probed", "charge_probed").await;
    assert_eq!(charges, orders);
    assert!(world.letters().await.is_empty());
    let (invoices, invoiced) = world.invoices().await;
    // Of an order whose charge was found done the invoice is not written.
    assert!(invoices == invoiced && invoices <= orders, "{invoices} of {orders}");
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_outside_that_are_never_repeated_end_as_a_dead_letter_or_happened() {
    let (world, orders, charges) = charged("never_twice", "charge_never_twice").await;
    let letters = world.letters().await;
    let (invoices, invoiced) = world.invoices().await;
    assert_eq!(invoices, invoiced);
    assert_eq!(invoices + i64::try_from(letters.len()).unwrap(), orders);
    assert!((invoices..=orders).contains(&charges), "{invoices} {charges} {orders}");
    for letter in letters {
        assert_eq!(letter.cause.unwrap().class, FailureClass::UnknownEnd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_calls_at_once_one_has_the_effect_outside_and_the_others_wait_for_it() {
    let world = World::new("at_once", 1, BIN).await;
    sqlx::query("create table charges (event_id text not null)").execute(&world.db).await.unwrap();
    let settings = world.settings.handlers(&["charge_never_twice"]);
    let store = settings.store().await.unwrap();
    let calls = Processor::new(store).state(Payments(world.db.clone()));
    for order in world.orders(0, 30) {
        let mut each = JoinSet::new();
        for _ in 0..5 {
            let (calls, order) = (calls.clone(), order.clone());
            each.spawn(async move { calls.process::<charge_never_twice>(order).await });
        }
        let outcomes: Vec<_> = each.join_all().await.into_iter().map(Result::unwrap).collect();
        let processed = outcomes.iter().filter(|it| it.is_processed()).count();
        let duplicates = outcomes.iter().filter(|it| it.is_duplicate()).count();
        assert_eq!((processed, duplicates), (1, 4), "{outcomes:?}");
    }
    let charges = "select count(*), count(distinct event_id) from charges";
    let charges: (i64, i64) = sqlx::query_as(charges).fetch_one(&world.db).await.unwrap();
    assert_eq!((charges, world.invoices().await), ((30, 30), (30, 30)));
}
