//! Events that fail for good, in the middle of everything else that goes wrong.

use std::time::{Duration, Instant};

use idem::{LetterFilter, LetterState, Store as _};
use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::{Order, Said, World, until};

use crate::BIN;

/// What became of all orders: numbers of invoices, of different invoiced orders, of letters by state.
#[derive(Debug, PartialEq, Eq)]
struct Sums {
    invoices: i64,
    invoiced: i64,
    dead: usize,
    parked: usize,
    waiting: usize,
}

async fn sums(world: &World) -> Sums {
    let (invoices, invoiced) = world.invoices().await;
    let letters = world.letters().await;
    let of = |state| letters.iter().filter(|letter| letter.state == state).count();
    Sums {
        invoices,
        invoiced,
        dead: of(LetterState::Dead),
        parked: of(LetterState::Parked),
        waiting: of(LetterState::Waiting),
    }
}

/// A number that differs from run to run.
fn seed() -> u64 {
    u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15
}

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    *random >> 33
}

/// Of a hundred orders one fails for good and five at their first attempt; some come twice.
fn troubled(world: &World, count: i64, customers: Option<i64>) -> Vec<Order> {
    let mut orders = world.orders(0, count);
    for order in &mut orders {
        order.act = match order.order_id % 100 {
            17 => Act::Refuse,
            3 | 23 | 43 | 63 | 83 => Act::FailOnce,
            _ => Act::Plain,
        };
        order.customer = customers.map(|it| format!("customer-{}", (order.order_id * 7) % it));
    }
    orders
}

/// Kills consumers at random while they work all this, and lets the last one finish.
async fn killed(world: &World, settings: &idem_e2e_tests::Settings, orders: Vec<Order>) {
    const KILLS: u32 = 15;
    let mut random = seed();
    println!("seed {random}");
    let producing = {
        let (kafka, topic) = (world.kafka.clone(), world.topic.clone());
        tokio::task::spawn_blocking(move || {
            for chunk in orders.chunks(500) {
                let again = chunk.iter().take(50);
                kafka.produce(&topic, chunk.iter().chain(again).map(|order| (None, order)));
            }
        })
    };
    for _ in 1..=KILLS {
        let before = world.positions().await;
        let mut consumer = world.start(settings);
        let some = i64::try_from(next(&mut random)).unwrap() % 500;
        let deadline = Instant::now() + Duration::from_secs(10);
        while world.positions().await < before + some && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        consumer.kill();
    }
    producing.await.unwrap();
    let mut consumer = world.start_working(settings).await;
    world.until_drained().await;
    assert!(consumer.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kills_and_failures_every_event_is_processed_once_or_one_dead_letter() {
    const ORDERS: i64 = 6_000;
    let world = World::new("failures", 4, BIN).await;
    let mut settings = world.settings.instance("one");
    settings.max_batch = 25;
    settings.policy = Said { attempts: Some(5), ..Said::default() };
    killed(&world, &settings, troubled(&world, ORDERS, None)).await;
    let refused = usize::try_from(ORDERS / 100).unwrap();
    let good = ORDERS - ORDERS / 100;
    assert_eq!(
        sums(&world).await,
        Sums { invoices: good, invoiced: good, dead: refused, parked: 0, waiting: 0 }
    );
    let letter = world.letters().await.into_iter().next().unwrap();
    let cause = letter.cause.unwrap();
    assert!(cause.permanent && cause.error.contains("is refused"), "{cause:?}");
    assert!(
        letter.event.payload.is_some() && letter.event.headers.get("idempotency-key").is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kills_and_parked_keys_each_customers_invoices_are_a_prefix_in_order() {
    const ORDERS: i64 = 4_000;
    let world = World::new("parking", 4, BIN).await;
    let mut settings = world.settings.instance("one");
    settings.max_batch = 25;
    let on_failure = Some("park_key".to_owned());
    settings.policy = Said { attempts: Some(5), on_failure, ..Said::default() };
    let orders = troubled(&world, ORDERS, Some(397));
    killed(&world, &settings, orders.clone()).await;

    let sums = sums(&world).await;
    assert_eq!(sums.invoices, sums.invoiced, "none is double");
    let accounted = sums.invoiced + i64::try_from(sums.parked + sums.waiting).unwrap();
    assert_eq!((accounted, sums.dead), (ORDERS, 0), "{sums:?}");
    assert!(sums.parked > 20 && sums.waiting > 20, "{sums:?}");
    // What a customer was billed for is what came before the first that failed.
    let expected = |customer: &str| -> Vec<i64> {
        let its = orders.iter().filter(|it| it.customer.as_deref() == Some(customer));
        its.take_while(|it| it.act != Act::Refuse).map(|it| it.order_id).collect()
    };
    for customer in (0..397).map(|it| format!("customer-{it}")) {
        assert_eq!(world.invoices_of(&customer).await, expected(&customer), "{customer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_one_process_parked_waits_in_the_next_and_is_released_in_order() {
    let world = World::new("parked", 1, BIN).await;
    let on_failure = Some("park_key".to_owned());
    let settings = world.settings.policy(Said { on_failure, ..Said::default() });
    let mut orders = world.orders(0, 12);
    for order in &mut orders {
        order.customer = Some(if order.order_id % 2 == 0 { "ann" } else { "bob" }.to_owned());
    }
    orders[2].act = Act::Refuse;
    world.produce(&orders[..6]);
    let mut first = world.start(&settings);
    world.until_drained().await;
    first.kill();

    let mut second = world.start(&settings);
    world.produce(&orders[6..]);
    world.until_drained().await;
    assert_eq!(world.invoices_of("ann").await, [0]);
    assert_eq!(world.invoices_of("bob").await, [1, 3, 5, 7, 9, 11]);

    // Replayed with its cause still there, it fails again, and everything waits on.
    let replay = world.replay(&settings).await;
    let parked = LetterFilter::new().state(LetterState::Parked);
    let report = replay.run(&parked).await.unwrap();
    assert_eq!((report.matched, report.processed, report.failed.len()), (1, 0, 1));
    // With its cause gone it is done, and what waits is worked by the consumer, in order.
    sqlx::query("insert into mended values ('event-2')").execute(&world.db).await.unwrap();
    let report = replay.run(&parked).await.unwrap();
    assert_eq!((report.processed, report.failed.len()), (1, 0));
    until("what waited is done", async || world.invoices().await == (12, 12)).await;
    assert_eq!(world.invoices_of("ann").await, [0, 2, 4, 6, 8, 10]);
    // The key flows again.
    let mut more = world.orders(12, 2);
    more.iter_mut().for_each(|order| order.customer = Some("ann".to_owned()));
    world.produce(&more);
    world.until_invoiced(14).await;
    assert!(second.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_beside_a_redelivery_and_beside_another_replay_has_one_effect() {
    let world = World::new("replayed", 1, BIN).await;
    let settings = world.settings.policy(Said { attempts: Some(1), ..Said::default() });
    let mut orders = world.orders(0, 200);
    orders.iter_mut().for_each(|order| order.act = Act::Refuse);
    world.produce(&orders);
    let mut consumer = world.start_working(&settings).await;
    world.until_drained().await;
    assert_eq!((world.invoices().await, world.letters().await.len()), ((0, 0), 200));

    sqlx::query("insert into mended select 'event-' || n from generate_series(0, 199) n")
        .execute(&world.db)
        .await
        .unwrap();
    // All events are delivered again, while two people replay them.
    assert!(consumer.terminate().success());
    world.kafka.commit(&settings.group, &world.topic, 0, 0);
    let replays = [world.replay(&settings).await, world.replay(&settings).await];
    let mut consumer = world.start(&settings);
    let all = LetterFilter::new();
    let (one, two) = tokio::join!(replays[0].run(&all), replays[1].run(&all));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.processed + two.processed, 200, "{one:?} {two:?}");
    world.until_drained().await;
    world.until_invoiced(200).await;
    assert_eq!(world.letters().await.len(), 200, "no second letter of any");
    assert!(consumer.terminate().success());
    assert_eq!(world.invoices().await, (200, 200));
    let store = settings.store().await.unwrap();
    let id = world.letters().await[7].id;
    let notes = store.history(id).await.unwrap();
    assert_eq!((notes.len(), notes[0].by.as_str()), (1, "ana"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_does_not_end_is_timed_out_and_holds_nothing() {
    let world = World::new("hanging", 1, BIN).await;
    let policy = Said { attempts: Some(2), timeout_ms: Some(300), ..Said::default() };
    let settings = world.settings.policy(policy);
    let mut orders = world.orders(0, 20);
    orders[9].act = Act::Hang;
    world.produce(&orders);
    let mut consumer = world.start_working(&settings).await;
    world.until_drained().await;
    assert_eq!(world.invoices().await, (19, 19));
    let letters = world.letters().await;
    assert_eq!(letters.len(), 1);
    let cause = letters[0].cause.clone().unwrap();
    assert_eq!((cause.class.as_str(), cause.attempts), ("timeout", 2));
    assert!(consumer.terminate().success());
}
