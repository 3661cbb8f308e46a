//! An annotated function, run without Kafka on a store in memory.

use idem::{ErrorKind, Failure, Outcome, Processor, State, Store as _, idempotent};
use idem_runtime::memory::{Memory, MemoryConnection};

struct OrderPlaced {
    event_id: &'static str,
    order: u32,
}

#[idempotent(key = "event_id", store = Memory)]
async fn bill(event: OrderPlaced, tx: &mut MemoryConnection) -> Result<(), Failure> {
    tx.insert("invoices", event.order.to_string()).await?;
    if event.order == 0 { Err(Failure::new("there is no order 0")) } else { Ok(()) }
}

#[idempotent(key = "event_id", store = Memory, scope = "mails")]
async fn mail(
    event: OrderPlaced,
    cx: &idem::Context,
    sender: State<String>,
    tx: &mut MemoryConnection,
) -> Result<(), Failure> {
    let row = format!("{} to {} as {}:{}", *sender, event.order, cx.scope(), cx.key());
    Ok(tx.insert("mails", row).await?)
}

struct Payment {
    tenant: &'static str,
    reference: Option<&'static str>,
}

impl Payment {
    fn key(&self) -> Option<String> {
        self.reference.map(str::to_lowercase)
    }
}

#[idempotent(
    key = with(Payment::key),
    tenant = "tenant",
    store = Memory,
    missing_key = "process_without_guarantee",
)]
async fn book(
    event: Payment,
    cx: &idem::Context,
    tx: &mut MemoryConnection,
) -> Result<(), Failure> {
    let key = if event.reference.is_some() { cx.key().as_str() } else { "none" };
    Ok(tx.insert("payments", key).await?)
}

#[tokio::test]
async fn what_a_function_makes_of_the_event_is_its_key_within_its_tenant() {
    let store = Memory::new();
    for (tenant, reference, new) in [
        ("a", Some("R1"), true),
        ("a", Some("r1"), false),
        ("b", Some("r1"), true),
        ("b", None, true),
        ("b", None, true),
    ] {
        let outcome = book::process(&store, Payment { tenant, reference }).await.unwrap();
        assert_eq!(outcome.is_processed(), new, "{tenant} {reference:?}");
    }
    assert_eq!(store.rows("payments"), ["1:a,2:r1", "1:b,2:r1", "none", "none"]);
    assert!(store.is_processed("book", "1:a,2:r1").await.unwrap());
}

#[tokio::test]
async fn a_second_call_with_the_same_key_is_a_duplicate() {
    let store = Memory::new();
    let first = bill::process(&store, OrderPlaced { event_id: "e1", order: 7 }).await.unwrap();
    let second = bill::process(&store, OrderPlaced { event_id: "e1", order: 7 }).await.unwrap();
    assert_eq!((first, second), (Outcome::Processed(()), Outcome::Duplicate(None)));
    assert_eq!(store.rows("invoices"), ["7"]);
    assert!(store.is_processed("bill", "e1").await.unwrap());
}

#[tokio::test]
async fn concurrent_calls_have_one_effect() {
    let store = Memory::new();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                bill::process(&store, OrderPlaced { event_id: "e1", order: 7 }).await
            })
        })
        .collect();
    let mut processed = 0;
    for call in calls {
        processed += usize::from(call.await.unwrap().unwrap().is_processed());
    }
    assert_eq!((processed, store.rows("invoices").len()), (1, 1));
}

#[tokio::test]
async fn a_failed_handler_keeps_nothing_and_can_be_called_again() {
    let store = Memory::new();
    let error = bill::process(&store, OrderPlaced { event_id: "e1", order: 0 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert!(error.report().contains("there is no order 0"), "{error:?}");
    assert!(store.rows("invoices").is_empty());
    let again = bill::process(&store, OrderPlaced { event_id: "e1", order: 7 }).await.unwrap();
    assert!(again.is_processed());
}

#[tokio::test]
async fn an_empty_key_is_refused() {
    let error =
        bill::process(&Memory::new(), OrderPlaced { event_id: "", order: 1 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
}

#[tokio::test]
async fn a_processor_gives_the_state_that_a_handler_asks_for() {
    let store = Memory::new();
    let event = || OrderPlaced { event_id: "e1", order: 7 };
    let error = mail::process(&store, event()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("State<alloc::string::String>"), "{error}");

    let processor = Processor::new(store.clone()).state("us".to_owned());
    assert!(processor.process::<mail>(event()).await.unwrap().is_processed());
    assert_eq!(store.rows("mails"), ["us to 7 as mails:e1"]);
}

#[tokio::test]
async fn a_closure_runs_once_and_can_be_spawned() {
    let store = Memory::new();
    for expected in [Some(3), None] {
        let store = store.clone();
        let run = tokio::spawn(async move {
            store
                .process_if_new("receipts", "r1", async |tx| {
                    tx.insert("receipts", "r1").await?;
                    Ok(3)
                })
                .await
        });
        assert_eq!(run.await.unwrap().unwrap().value(), expected);
    }
    assert_eq!(store.rows("receipts"), ["r1"]);
}

#[tokio::test]
async fn the_function_can_be_called_by_itself() {
    let store = Memory::new();
    let done = store
        .process_if_new("test", "t1", async |tx| {
            let cx = idem::Context::new("mails", idem::Key::new("e1")?);
            let event = OrderPlaced { event_id: "e1", order: 7 };
            mail(event, &cx, State::new("us".to_owned()), tx).await
        })
        .await
        .unwrap();
    assert!(done.is_processed());
    assert_eq!(store.rows("mails").len(), 1);
    assert!(!store.is_processed("mails", "e1").await.unwrap());
}
