//! What a handler returned is stored beside its marker, and a duplicate is answered with it.

use idem::{ErrorKind, Failure, Outcome, Processor, State, Store as _, idempotent};
use idem_runtime::memory::{Memory, MemoryConnection};
use serde::{Deserialize, Serialize};

#[derive(Clone)]
struct Payment {
    event_id: String,
    cents: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Receipt {
    number: usize,
    lines: Vec<String>,
}

#[idempotent(key = "event_id", store = Memory, store_result)]
async fn pay(payment: Payment, tx: &mut MemoryConnection) -> Result<Receipt, Failure> {
    tx.insert("payments", payment.cents.to_string()).await?;
    if payment.cents == 0 {
        return Err(Failure::permanent("nothing to pay"));
    }
    let number = tx.rows("payments").await?.len();
    Ok(Receipt { number, lines: vec!["x".repeat(payment.cents as usize)] })
}

#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl Refused {
    fn always(&self) -> bool {
        true
    }
}

#[idempotent(key = "event_id", store = Memory, store_result = 8, permanent = Refused::always)]
async fn short(payment: Payment, length: State<usize>) -> Result<String, Refused> {
    if payment.cents == 0 { Err(Refused) } else { Ok("x".repeat(*length)) }
}

fn payment(id: &str, cents: u32) -> Payment {
    Payment { event_id: id.to_owned(), cents }
}

#[tokio::test]
async fn a_duplicate_is_answered_as_the_first_call_was() {
    let store = Memory::new();
    let first = pay::process(&store, payment("p1", 3)).await.unwrap();
    let receipt = Receipt { number: 1, lines: vec!["xxx".to_owned()] };
    assert_eq!(first, Outcome::Processed(receipt.clone()));
    // Another amount under the same key is a duplicate all the same.
    for again in [payment("p1", 3), payment("p1", 9)] {
        let again = pay::process(&store, again).await.unwrap();
        assert_eq!(again, Outcome::Duplicate(Some(receipt.clone())));
    }
    assert_eq!(store.rows("payments"), ["3"]);
    let marker = store.marker("pay", &"p1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(marker.result.unwrap()["number"], 1);
}

#[tokio::test]
async fn concurrent_calls_have_one_answer() {
    let store = Memory::new();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { pay::process(&store, payment("p1", 3)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().unwrap());
    }
    assert_eq!(answers.iter().filter(|it| it.is_processed()).count(), 1);
    let first = answers[0].clone().value().unwrap();
    assert!(answers.into_iter().all(|it| it.value() == Some(first.clone())));
}

#[tokio::test]
async fn a_failure_stores_nothing() {
    let store = Memory::new();
    let error = pay::process(&store, payment("p1", 0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert!(store.marker("pay", &"p1".parse().unwrap()).await.unwrap().is_none());
    assert!(pay::process(&store, payment("p1", 2)).await.unwrap().is_processed());
}

#[tokio::test]
async fn a_result_that_is_too_long_is_a_failure_that_names_the_way_out() {
    let store = Memory::new();
    let with = |length: usize| Processor::new(store.clone()).state(length);
    let error = with(7).answer::<short>(payment("p1", 1)).await.unwrap_err().report();
    assert!(error.contains("has 9 bytes") && error.contains("store_result = 9"), "{error}");
    let answer = with(6).answer::<short>(payment("p1", 1)).await.unwrap();
    assert_eq!(answer, Outcome::Processed("xxxxxx".to_owned()));
    let error = with(6).answer::<short>(payment("p2", 0)).await.unwrap_err();
    assert!(error.report().contains("refused"), "{error:?}");
}

#[tokio::test]
async fn what_was_processed_before_results_were_stored_has_none() {
    let store = Memory::new();
    let _ = store.mark_processed("pay", "p1", None).await.unwrap();
    let answer = pay::process(&store, payment("p1", 3)).await.unwrap();
    assert_eq!(answer, Outcome::Duplicate(None));
}

#[tokio::test]
async fn a_result_of_another_shape_is_an_error_and_not_an_answer() {
    #[idempotent(key = "event_id", store = Memory, scope = "pay", store_result)]
    async fn pay_otherwise(_payment: Payment) -> Result<u32, Failure> {
        Ok(7)
    }
    let store = Memory::new();
    let _ = pay_otherwise::process(&store, payment("p1", 3)).await.unwrap();
    let error = pay::process(&store, payment("p1", 3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("scope pay"), "{error}");
}

#[tokio::test]
async fn an_answer_that_was_lost_on_the_way_is_found_again() {
    let store = Memory::new();
    store.faults().lose_the_answer_of_a_commit();
    let first = pay::process(&store, payment("p1", 3)).await.unwrap();
    let again = pay::process(&store, payment("p1", 3)).await.unwrap();
    assert!(first.is_processed() && again.is_duplicate());
    assert_eq!(first.value(), again.value());
}
