//! Running something once without Kafka, when the database fails at the worst moment.

use idem_runtime::memory::{Memory, MemoryConnection, Point};
use idem_runtime::{
    Call, Context, Error, ErrorKind, EventOf, Failure, Handler, Key, KeyError, KeySource,
    KeyedByEvent, MissingKey, Needs, One, Outcome, Param, Policy, Processor, Result, State, Store,
    process,
};
use serde_json::json;

/// What `#[idempotent]` makes of a handler with a connection, a context and state.
struct Bill;

struct Order {
    id: &'static str,
}

struct Currency(&'static str);

impl Handler for Bill {
    type Store = Memory;
    type Input = One<Order>;
    const SCOPE: &'static str = "bill";
    const KEY: KeySource = KeySource::Event;

    fn needs(needs: &mut Needs) {
        <State<Currency> as Param<'_, Self>>::needs(needs);
    }

    fn key(order: &EventOf<Self>, _: Option<&idem_runtime::Event>) -> Result<Key, KeyError> {
        Key::of(order.id)
    }

    async fn handle(
        One(order): One<Order>,
        mut call: Call<'_, Self>,
    ) -> std::result::Result<(), Failure> {
        let cx = <&Context as Param<'_, Self>>::take(&mut call)?;
        let currency = <State<Currency> as Param<'_, Self>>::take(&mut call)?;
        let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
        assert_eq!((cx.scope(), cx.key().as_str(), cx.attempt()), ("bill", order.id, 1));
        assert_eq!((cx.topic(), cx.group()), (None, None));
        Ok(tx.insert("invoices", format!("{} in {}", order.id, currency.0)).await?)
    }
}

impl KeyedByEvent for Bill {}

async fn once(store: &Memory) -> Result<Outcome<&'static str>> {
    store
        .process_if_new("bill", "e1", async |tx| {
            tx.insert("invoices", "e1").await?;
            Ok("receipt")
        })
        .await
}

fn assert_untouched(store: &Memory) {
    assert!(store.rows("invoices").is_empty());
    assert!(store.look(|view| view.keys("bill").is_empty() && view.open() == 0));
}

#[tokio::test]
async fn a_handler_runs_once_with_its_state_and_its_metadata() {
    let store = Memory::new();
    let processor =
        Processor::new(store.clone()).state(Currency("EUR")).metadata(json!({"by": "webhook"}));
    assert!(processor.process::<Bill>(Order { id: "e1" }).await.unwrap().is_processed());
    assert!(processor.process::<Bill>(Order { id: "e1" }).await.unwrap().is_duplicate());
    assert_eq!(store.rows("invoices"), ["e1 in EUR"]);
    let marker = store.marker("bill", &Key::new("e1").unwrap()).await.unwrap().unwrap();
    assert_eq!(marker.metadata, Some(json!({"by": "webhook"})));
    assert_eq!(marker.origin, None);
}

#[tokio::test]
async fn missing_state_and_a_bad_key_are_refused_before_anything_runs() {
    let store = Memory::new();
    let error = process::<Bill>(&store, Order { id: "e1" }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("Currency"), "{error}");
    let processor = Processor::new(store.clone()).state(Currency("EUR"));
    let error = processor.process::<Bill>(Order { id: "" }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    assert_eq!(store.counts().begins, 0);
}

/// As a handler with `missing_key = "process_without_guarantee"`.
struct Lax;

impl Handler for Lax {
    type Store = Memory;
    type Input = One<Option<&'static str>>;
    const SCOPE: &'static str = "lax";
    const POLICY: Policy = Policy::new().missing_key(MissingKey::ProcessWithoutGuarantee);

    fn needs(_: &mut Needs) {}

    fn key(id: &EventOf<Self>, _: Option<&idem_runtime::Event>) -> Result<Key, KeyError> {
        Key::of(id.ok_or_else(|| KeyError::missing("no id"))?)
    }

    async fn handle(
        One(id): One<Option<&'static str>>,
        mut call: Call<'_, Self>,
    ) -> std::result::Result<(), Failure> {
        let cx = <&Context as Param<'_, Self>>::take(&mut call)?;
        let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
        tx.insert("keys", cx.key().to_string()).await?;
        match id {
            None if tx.rows("keys").await?.len() > 3 => {
                let _ = tx.commit_behind_back().await;
                Ok(())
            }
            id => Ok(tx.insert("lax", id.unwrap_or("none")).await?),
        }
    }
}

impl KeyedByEvent for Lax {}

#[tokio::test]
async fn an_event_without_a_key_is_processed_each_time_where_that_is_asked_for() {
    let store = Memory::new();
    for _ in 0..2 {
        assert!(process::<Lax>(&store, None).await.unwrap().is_processed());
    }
    assert!(process::<Lax>(&store, Some("e1")).await.unwrap().is_processed());
    assert!(process::<Lax>(&store, Some("e1")).await.unwrap().is_duplicate());
    assert_eq!(store.rows("lax"), ["none", "none", "e1"]);
    assert_eq!(store.look(|view| view.keys("lax")), ["e1"]);
    let keys = store.rows("keys");
    assert!(keys[0] != keys[1] && keys[2] == "e1", "{keys:?}");
    // Its transaction is guarded as any other.
    let error = process::<Lax>(&store, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandlerBroke);
}

#[tokio::test]
async fn a_failure_without_a_key_keeps_nothing_and_a_malformed_key_is_refused() {
    let store = Memory::new();
    for (point, kind) in [(Point::Seal, ErrorKind::Transient), (Point::Commit, ErrorKind::Store)] {
        store.faults().fail(point, kind);
        let error = process::<Lax>(&store, None).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains("scope lax, without a key"), "{error}");
    }
    assert!(store.rows("lax").is_empty());
    let error = process::<Lax>(&store, Some("a\0b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    assert!(store.look(|view| view.open() == 0));
}

#[tokio::test]
async fn who_did_the_work_is_told_so_although_the_answer_was_lost() {
    let store = Memory::new();
    store.faults().lose_the_answer_of_a_commit();
    assert_eq!(once(&store).await.unwrap(), Outcome::Processed("receipt"));
    assert_eq!(store.rows("invoices"), ["e1"]);
    assert!(once(&store).await.unwrap().is_duplicate());
}

#[tokio::test]
async fn a_lost_commit_keeps_nothing_and_can_be_called_again() {
    let store = Memory::new();
    store.faults().fail(Point::Commit, ErrorKind::UnknownCommit);
    let error = once(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.is_retryable());
    assert_untouched(&store);
    assert!(once(&store).await.unwrap().is_processed());
}

#[tokio::test]
async fn an_unknown_commit_that_the_server_is_still_at_is_waited_for() {
    let store = Memory::new();
    let pause = store.faults().lose_the_answer_of_a_slow_commit();
    let server = async {
        pause.reached().await;
        store.wait_for(|view| view.waiting() == 1).await;
        pause.release();
    };
    let (outcome, ()) = tokio::join!(once(&store), server);
    assert_eq!(outcome.unwrap(), Outcome::Processed("receipt"));
    assert_eq!(store.rows("invoices"), ["e1"]);
}

#[tokio::test]
async fn another_caller_waits_for_a_slow_commit_and_is_the_duplicate() {
    let store = Memory::new();
    let pause = store.faults().lose_the_answer_of_a_slow_commit();
    let server = async {
        pause.reached().await;
        store.wait_for(|view| view.waiting() == 2).await;
        pause.release();
    };
    let (first, second, ()) = tokio::join!(once(&store), once(&store), server);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.is_processed() && second.is_duplicate());
    assert_eq!(store.rows("invoices"), ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_commit_that_nobody_can_be_asked_about_stays_unknown() {
    let store = Memory::new();
    let pause = store.faults().lose_the_answer_of_a_slow_commit();
    let server = async {
        pause.reached().await;
        store.faults().disconnect();
    };
    let (outcome, ()) = tokio::join!(once(&store), server);
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownCommit);
    assert!(error.is_retryable());
    drop(pause);
    store.faults().reconnect();
    assert!(once(&store).await.unwrap().is_processed());
    assert_eq!(store.rows("invoices"), ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_before_the_effects_is_tried_again() {
    let store = Memory::new();
    store.faults().fail(Point::Begin, ErrorKind::Connection);
    store.faults().fail(Point::Claim, ErrorKind::Transient);
    assert!(once(&store).await.unwrap().is_processed());
    assert_eq!(store.counts().begins, 2);
    assert_eq!(store.rows("invoices"), ["e1"]);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_stays_away_is_reported_as_retryable() {
    let store = Memory::new();
    store.faults().disconnect();
    let error = once(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("scope bill, key e1"), "{error}");
}

#[tokio::test]
async fn a_failure_after_the_effects_keeps_nothing() {
    for (point, kind) in [(Point::Seal, ErrorKind::Transient), (Point::Commit, ErrorKind::Store)] {
        let store = Memory::new();
        store.faults().fail(point, kind);
        assert_eq!(once(&store).await.unwrap_err().kind(), kind);
        assert_untouched(&store);
    }
}

#[tokio::test]
async fn a_deferred_constraint_keeps_nothing() {
    let store = Memory::new();
    store.faults().reject_commits(|rows| {
        rows.contains(&("invoices", "e1")).then(|| Error::new(ErrorKind::Store, "no such customer"))
    });
    let error = once(&store).await.unwrap_err();
    assert!(error.to_string().contains("no such customer"), "{error}");
    assert_untouched(&store);
    store.faults().accept_commits();
    assert!(once(&store).await.unwrap().is_processed());
}

#[tokio::test]
async fn the_kind_of_an_error_tells_whose_fault_it_is() {
    let store = Memory::new();
    let call = async |how: u8| {
        let result: Result<Outcome> = store
            .process_if_new("bill", "e1", async |tx| match how {
                0 => Ok(tx.fail_statement().await?),
                1 => Ok(tx.fail_transiently().await?),
                2 => Ok(tx.commit_behind_back().await?),
                _ => {
                    let _ = tx.fail_statement().await;
                    Ok(())
                }
            })
            .await;
        result.unwrap_err().kind()
    };
    assert_eq!(call(0).await, ErrorKind::Handler);
    assert_eq!(call(1).await, ErrorKind::Transient);
    assert_eq!(call(2).await, ErrorKind::HandlerBroke);
    assert_eq!(call(3).await, ErrorKind::HandlerBroke, "a swallowed error");
    assert_untouched(&store);
}

#[tokio::test]
async fn a_call_that_is_dropped_keeps_nothing() {
    let store = Memory::new();
    let pause = store.faults().pause(Point::Commit);
    tokio::select! {
        biased;
        _ = once(&store) => panic!("the commit is paused"),
        () = pause.reached() => {}
    }
    assert_untouched(&store);
    drop(pause);
    assert!(once(&store).await.unwrap().is_processed());
}
