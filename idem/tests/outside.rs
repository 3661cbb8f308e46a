//! Effects outside of the database, without Kafka: an attempt is written down before it begins.

#![expect(clippy::unwrap_used, reason = "what is missing fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use idem::{
    Begun, ErrorKind, Failure, Key, MarkerState, Outcome, Probed, Processor, State, Store as _,
    idempotent,
};
use idem_runtime::memory::{Memory, MemoryConnection, Point};
use tokio::sync::Semaphore;

#[derive(Clone)]
struct Charge {
    event_id: &'static str,
}

/// The world outside, and whether its answer comes.
#[derive(Clone)]
struct Remote {
    charges: Arc<AtomicU32>,
    answers: Arc<Semaphore>,
}

impl Remote {
    fn new() -> Self {
        Self { charges: Arc::default(), answers: Arc::new(Semaphore::new(0)) }
    }

    async fn charge(&self) {
        self.charges.fetch_add(1, SeqCst);
        self.answers.acquire().await.unwrap().forget();
    }
}

async fn was_charged(charge: &Charge, begun: &Begun) -> Result<Probed, Failure> {
    assert_eq!(begun.key().as_str(), charge.event_id);
    let remote = begun.state::<Remote>().ok_or("no remote")?;
    Ok(match remote.charges.load(SeqCst) {
        0 => Probed::NotDone,
        1 => Probed::Done,
        _ => Probed::Unknown,
    })
}

macro_rules! handler {
    ($name:ident, $($effects:tt)*) => {
        #[idempotent(
            key = "event_id",
            store = Memory,
            timeout = "5s",
            store_result,
            effects = external($($effects)*)
        )]
        async fn $name(
            charge: Charge,
            remote: State<Remote>,
            tx: &mut MemoryConnection,
        ) -> Result<String, Failure> {
            if charge.event_id == "refused" {
                return Err(Failure::new("refused"));
            }
            remote.charge().await;
            tx.insert("charges", charge.event_id).await?;
            Ok(charge.event_id.to_uppercase())
        }
    };
}

handler!(again, unknown = retry);
handler!(later, unknown = retry_after("1h"));
handler!(never, unknown = never);
handler!(probed, probe = was_charged);

fn processor(store: &Memory, remote: &Remote) -> Processor<Memory> {
    Processor::new(store.clone()).state(remote.clone())
}

/// A call that dies in the middle of the world outside.
macro_rules! died {
    ($handler:ident, $store:expr, $remote:expr) => {{
        let before = $remote.charges.load(SeqCst);
        let call = processor($store, $remote);
        let call =
            tokio::spawn(async move { call.answer::<$handler>(Charge { event_id: "e1" }).await });
        let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
        while $remote.charges.load(SeqCst) == before {
            assert!(tokio::time::Instant::now() < deadline, "the handler was not run");
            // Virtual: it passes when nobody has anything else to do.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }};
}

async fn state(store: &Memory, scope: &str) -> Option<MarkerState> {
    let marker = store.marker(scope, &Key::new("e1").unwrap()).await.unwrap();
    marker.map(|it| it.state)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_succeeds_is_marked_and_a_duplicate_has_its_answer() {
    let (store, remote) = (Memory::new(), Remote::new());
    remote.answers.add_permits(9);
    let calls = processor(&store, &remote);
    let first = calls.answer::<never>(Charge { event_id: "e1" }).await.unwrap();
    assert_eq!(first, Outcome::Processed("E1".to_owned()));
    let again = calls.answer::<never>(Charge { event_id: "e1" }).await.unwrap();
    assert_eq!(again, Outcome::Duplicate(Some("E1".to_owned())));
    assert_eq!((remote.charges.load(SeqCst), store.rows("charges").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_returned_an_error_may_be_called_again() {
    let (store, remote) = (Memory::new(), Remote::new());
    let calls = processor(&store, &remote);
    for _ in 0..2 {
        let error = calls.process::<never>(Charge { event_id: "refused" }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handler, "{error:?}");
    }
    let marker = store.marker("never", &Key::new("refused").unwrap()).await.unwrap();
    assert!(marker.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_died_is_repeated_or_not_as_the_handler_says() {
    let (store, remote) = (Memory::new(), Remote::new());
    died!(never, &store, &remote);
    assert_eq!(state(&store, "never").await, Some(MarkerState::Begun));
    assert!(!store.is_processed("never", "e1").await.unwrap());
    let calls = processor(&store, &remote);
    let error = calls.process::<never>(Charge { event_id: "e1" }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownEnd);
    assert!(error.to_string().contains("scope never, key e1"), "{error}");

    died!(later, &store, &remote);
    let error = calls.process::<later>(Charge { event_id: "e1" }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownEnd);
    assert!(error.to_string().contains("call again in"), "{error}");

    died!(again, &store, &remote);
    remote.answers.add_permits(1);
    assert!(calls.process::<again>(Charge { event_id: "e1" }).await.unwrap().is_processed());
    assert_eq!(remote.charges.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_probe_decides() {
    let (store, remote) = (Memory::new(), Remote::new());
    died!(probed, &store, &remote);
    let calls = processor(&store, &remote);
    // It had happened: marked, and nothing was returned.
    let done = calls.process::<probed>(Charge { event_id: "e1" }).await.unwrap();
    assert!(done.is_processed());
    assert_eq!(state(&store, "probed").await, Some(MarkerState::Processed));
    assert!(store.rows("charges").is_empty());

    let (store, remote) = (Memory::new(), Remote::new());
    died!(probed, &store, &remote);
    remote.charges.store(0, SeqCst);
    remote.answers.add_permits(1);
    let calls = processor(&store, &remote);
    let run = calls.answer::<probed>(Charge { event_id: "e1" }).await.unwrap();
    assert_eq!((run, store.rows("charges").len()), (Outcome::Processed("E1".to_owned()), 1));

    let (store, remote) = (Memory::new(), Remote::new());
    died!(probed, &store, &remote);
    remote.charges.store(2, SeqCst);
    let error = processor(&store, &remote).process::<probed>(Charge { event_id: "e1" }).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::UnknownEnd);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_has_an_unknown_end() {
    let (store, remote) = (Memory::new(), Remote::new());
    let calls = processor(&store, &remote);
    let error = calls.process::<never>(Charge { event_id: "e1" }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert_eq!(state(&store, "never").await, Some(MarkerState::Begun));
    let error = calls.process::<never>(Charge { event_id: "e1" }).await.unwrap_err();
    assert_eq!((error.kind(), remote.charges.load(SeqCst)), (ErrorKind::UnknownEnd, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_writing_down_was_not_confirmed_is_known_as_its_own() {
    for landed in [true, false] {
        let (store, remote) = (Memory::new(), Remote::new());
        remote.answers.add_permits(1);
        match landed {
            true => store.faults().lose_the_answer_of_a_commit(),
            false => store.faults().fail(Point::Commit, ErrorKind::UnknownCommit),
        }
        let calls = processor(&store, &remote);
        assert!(calls.process::<never>(Charge { event_id: "e1" }).await.unwrap().is_processed());
        assert_eq!(remote.charges.load(SeqCst), 1);
    }
}

#[idempotent(
    key = "event_id",
    store = Memory,
    store_result = 2,
    effects = external(unknown = "never")
)]
async fn wordy(_charge: Charge, remote: State<Remote>) -> Result<String, Failure> {
    remote.charge().await;
    Ok("more than is stored".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_stored_is_no_failure_of_the_effect() {
    let (store, remote) = (Memory::new(), Remote::new());
    remote.answers.add_permits(9);
    let calls = processor(&store, &remote);
    let error = calls.process::<wordy>(Charge { event_id: "e1" }).await.unwrap_err();
    assert!(error.report().contains("store_result = 21"), "{error:?}");
    let error = calls.process::<wordy>(Charge { event_id: "e1" }).await.unwrap_err();
    assert_eq!((error.kind(), remote.charges.load(SeqCst)), (ErrorKind::UnknownEnd, 1));
}

/// Stops the first call when its attempt is written down and not run yet.
macro_rules! between {
    ($handler:ident, $id:literal, $store:expr, $remote:expr) => {{
        let first = $store.faults().pause(Point::Begin);
        let call = processor($store, $remote);
        let call =
            tokio::spawn(async move { call.answer::<$handler>(Charge { event_id: $id }).await });
        first.reached().await;
        let begun = $store.faults().pause(Point::Begin);
        first.release();
        begun.reached().await;
        (call, begun)
    }};
}

#[tokio::test(start_paused = true)]
async fn of_two_calls_at_once_the_second_waits_and_has_the_answer_of_the_first() {
    let (store, remote) = (Memory::new(), Remote::new());
    let (first, begun) = between!(never, "e1", &store, &remote);
    let second = processor(&store, &remote);
    let second =
        tokio::spawn(async move { second.answer::<never>(Charge { event_id: "e1" }).await });
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(!second.is_finished());
    begun.release();
    remote.answers.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap(), Outcome::Processed("E1".to_owned()));
    assert_eq!(second.await.unwrap().unwrap(), Outcome::Duplicate(Some("E1".to_owned())));
    assert_eq!((remote.charges.load(SeqCst), store.rows("charges").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_one_that_failed_is_run() {
    let (store, remote) = (Memory::new(), Remote::new());
    let (first, begun) = between!(never, "refused", &store, &remote);
    let second = processor(&store, &remote);
    let second =
        tokio::spawn(async move { second.answer::<never>(Charge { event_id: "refused" }).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    begun.release();
    for call in [first, second] {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handler, "its own failure: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_attempt_was_taken_over_does_not_run_it() {
    let (store, remote) = (Memory::new(), Remote::new());
    let (late, begun) = between!(probed, "e1", &store, &remote);
    // Another takes it over after its time, and dies in the middle of it.
    died!(probed, &store, &remote);
    begun.release();
    // It asks what became of that one.
    let outcome = late.await.unwrap().unwrap();
    assert_eq!((outcome, remote.charges.load(SeqCst)), (Outcome::Duplicate(None), 1));
    assert_eq!(state(&store, "probed").await, Some(MarkerState::Processed));
}

#[tokio::test(start_paused = true)]
async fn a_person_says_that_an_attempt_has_had_its_effect() {
    let (store, remote) = (Memory::new(), Remote::new());
    died!(never, &store, &remote);
    let closure = async |_: &mut MemoryConnection| Ok(());
    let error = store.process_if_new("never", "e1", closure).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownEnd);
    assert!(error.to_string().contains("`mark_processed`"), "{error}");
    let seen = r#"{"seen in":"a statement"}"#;
    let settled = store.mark_processed("never", "e1", Some(seen.parse().unwrap())).await.unwrap();
    assert_eq!((settled, settled.is_processed()), (Outcome::Settled, true));
    let marker = store.marker("never", &Key::new("e1").unwrap()).await.unwrap().unwrap();
    assert_eq!(marker.state, MarkerState::Processed);
    assert_eq!(marker.metadata.unwrap().to_string(), seen);
    assert!(store.mark_processed("never", "e1", None).await.unwrap().is_duplicate());
    let calls = processor(&store, &remote);
    assert!(calls.process::<never>(Charge { event_id: "e1" }).await.unwrap().is_duplicate());
    assert_eq!(remote.charges.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_beside_the_marker_of_an_attempt_is_there_when_it_is_done() {
    let (store, remote) = (Memory::new(), Remote::new());
    remote.answers.add_permits(1);
    let metadata = r#"{"by":"a webhook"}"#;
    let calls = processor(&store, &remote).metadata(metadata.parse().unwrap());
    assert!(calls.process::<never>(Charge { event_id: "e1" }).await.unwrap().is_processed());
    let marker = store.marker("never", &Key::new("e1").unwrap()).await.unwrap().unwrap();
    assert_eq!(marker.metadata.unwrap().to_string(), metadata);
}
