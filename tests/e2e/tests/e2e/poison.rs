//! An event that takes its process down.

use idem_e2e_tests::handlers::Act;
use idem_e2e_tests::{Settings, World};

use crate::BIN;

/// Starts the consumer again and again, as a supervisor does, until all is worked. Answers how often
/// it died.
async fn supervised(world: &World, settings: &Settings) -> u32 {
    let (mut deaths, ends) = (0, world.ends());
    loop {
        let mut consumer = world.start(settings);
        loop {
            if world.positions().await == ends {
                assert!(consumer.terminate().success());
                return deaths;
            }
            if let Some(status) = consumer.ended() {
                assert!(!status.success());
                deaths += 1;
                assert!(deaths < 12, "it is not found: {}", consumer.log());
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_aborts_its_process_is_quarantined_and_the_rest_is_done() {
    let world = World::new("poison", 2, BIN).await;
    let mut orders = world.orders(0, 300);
    orders[137].act = Act::Abort;
    world.produce(&orders);
    let mut settings = world.settings.instance("one");
    settings.max_batch = 100;
    let deaths = supervised(&world, &settings).await;
    println!("{deaths} deaths");
    assert_eq!(world.invoices().await, (299, 299));
    let letters = world.letters().await;
    assert_eq!(letters.len(), 1);
    let cause = letters[0].cause.clone().unwrap();
    assert_eq!((cause.class.as_str(), cause.attempts), ("crash", 3));
    let payload = letters[0].event.payload.clone().unwrap();
    assert!(std::str::from_utf8(&payload).unwrap().contains("event-137"));
    assert!((4..=8).contains(&deaths), "{deaths}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_found_in_slices_too() {
    let world = World::new("poison_slices", 1, BIN).await;
    let mut orders = world.orders(0, 200);
    orders[77].act = Act::Abort;
    world.produce(&orders);
    let mut settings = world.settings.instance("one");
    settings.max_batch = 20;
    settings.policy.slices = Some(4);
    let deaths = supervised(&world, &settings).await;
    println!("{deaths} deaths");
    assert_eq!(world.invoices().await, (199, 199));
    assert_eq!(world.letters().await.len(), 1);
}
