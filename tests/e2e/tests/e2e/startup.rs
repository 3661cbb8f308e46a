//! What is refused at start, and that the error names the fix.

use idem::{Error, ErrorKind};
use idem_e2e_tests::{Settings, World};

use crate::BIN;

async fn refused(settings: &Settings) -> Error {
    match settings.build().await {
        Ok(app) => app.run().await.unwrap_err(),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_at_start_has_an_error_that_names_the_fix() {
    let world = World::new("startup", 1, BIN).await;
    let right = &world.settings;

    let error = refused(&Settings { bootstrap: "127.0.0.1:1".into(), ..right.clone() }).await;
    assert_eq!(error.kind(), ErrorKind::Kafka);
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");

    let error = refused(&Settings { topic: "no-such-topic".into(), ..right.clone() }).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no-such-topic does not exist"), "{error}");

    let error = refused(&Settings { schema: "idem_nowhere".into(), ..right.clone() }).await;
    assert_eq!(error.kind(), ErrorKind::Migration);
    assert!(error.to_string().contains("migrate"), "{error}");

    let (scheme, rest) = right.database_url.split_once("://").unwrap();
    let (user, server) = rest.rsplit_once('@').unwrap();
    let user = user.split(':').next().unwrap();
    let wrong = format!("{scheme}://{user}:hunter2@{server}");
    let error = refused(&Settings { database_url: wrong, ..right.clone() }).await;
    assert_eq!(error.kind(), ErrorKind::Connection);
    let text = error.report();
    assert!(text.contains("password") && !text.contains("hunter2"), "{text}");

    let error = refused(&right.clone().property("enable.auto.commit", "true")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("enable.auto.commit"), "{error}");

    let error = refused(&right.clone().property("no.such.property", "hunter2")).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.report();
    assert!(text.contains("no.such.property") && !text.contains("hunter2"), "{text}");

    let error = refused(&right.handlers(&["bill", "bill"])).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("two handlers have the scope `bill`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_from_before_idem_ask_where_to_start() {
    let mut world = World::new("before", 1, BIN).await;
    let orders = world.orders(0, 100);
    world.produce(&orders);
    world.kafka.commit(&world.settings.group, &world.topic, 0, 60);

    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    idem_e2e_tests::until("it asks", async || !handle.stopped_lanes().is_empty()).await;
    let lines = handle.stopped_lanes().join("\n");
    assert!(lines.contains("Start::Committed") && lines.contains("60"), "{lines}");
    handle.shutdown();
    assert_eq!(run.await.unwrap().unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(world.invoices().await, (0, 0));

    world.settings.start = Some("committed".into());
    let app = world.settings.build().await.unwrap();
    let handle = app.handle();
    let run = tokio::spawn(app.run());
    world.until_drained().await;
    handle.shutdown();
    run.await.unwrap().unwrap();
    assert_eq!(world.invoices().await, (40, 40));
}
