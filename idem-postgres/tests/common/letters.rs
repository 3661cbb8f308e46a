//! Dead letters for the tests.

use std::time::{Duration, SystemTime};

use idem_postgres::Postgres;
use idem_runtime::lane::Held;
use idem_runtime::store::{Settlement, Terms, Writer};
use idem_runtime::{
    Cause, DeadLetter, Event, FailureClass, LetterAction, LetterFilter, LetterState, NewLetter,
    Result, Store,
};
use uuid::Uuid;

use super::finish;

/// The event at this offset of partition 0, with this message key.
pub(crate) fn event(offset: i64, message_key: &[u8]) -> Event {
    let mut event = Event::new("orders".into(), 0, offset, format!("payload {offset}"));
    event.message_key = Some(message_key.to_vec().into());
    event
}

pub(crate) fn cause(error: &str) -> Cause {
    Cause {
        class: FailureClass::Handler,
        permanent: false,
        error: error.to_owned(),
        attempts: 3,
        first_failed_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    }
}

pub(crate) fn letter<'a>(
    event: &'a Event,
    state: LetterState,
    cause: Option<&'a Cause>,
) -> NewLetter<'a> {
    NewLetter { scope: "bill", key: None, event, digest: event.digest(), state, cause }
}

/// Gives this event up, or has it wait, in a batch of its own.
pub(crate) async fn give_up(
    store: &Postgres,
    held: &mut Held,
    event: &Event,
    state: LetterState,
) -> Result<()> {
    let cause = (state != LetterState::Waiting).then(|| cause("declined"));
    let mut tx = store.begin(&Writer::Lane(held), &Terms::default()).await?;
    store.give_up(&mut tx, held, &[letter(event, state, cause.as_ref())]).await?;
    finish(store, tx, held).await
}

/// All letters, in order.
pub(crate) async fn letters(store: &Postgres) -> Vec<DeadLetter> {
    store.letters(&LetterFilter::new()).await.expect("letters")
}

/// Locks a letter and settles it, in a transaction of its own.
pub(crate) async fn settle(store: &Postgres, id: i64, action: LetterAction) -> Result<()> {
    let writer = Writer::Direct { attempt: Uuid::new_v4() };
    let mut tx = store.begin(&writer, &Terms::default()).await?;
    store.lock_letter(&mut tx, id).await?.expect("the letter is there");
    let settlement = Settlement { action, by: "ann", note: None, edit: None };
    store.settle_letter(&mut tx, id, &settlement).await?;
    store.seal(&mut tx, &writer, None).await?;
    store.commit(tx).await
}
