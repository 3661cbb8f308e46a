//! Dead letters for people: looking at them, dropping and correcting them. Replaying one needs its
//! handler, and is in `replay`.

use std::time::Duration;

use bytes::Bytes;

use crate::backoff::Backoff;
use crate::dead_letter::{DeadLetter, LetterAction, LetterFilter, LetterNote};
use crate::edit::LetterEdit;
use crate::error::{Error, ErrorKind, Result};
use crate::store::direct::sealed;
use crate::store::{Settlement, Store, Terms, Writer};
use uuid::Uuid;

/// How often a step that failed for a passing reason is tried again before the caller is told.
const TRIES: u32 = 5;

/// The dead letters of a store.
///
/// Everything that is done with one is noted beside it, with who did it.
///
/// ```no_run
/// # async fn example<S: idem_runtime::Store>(store: S) -> idem_runtime::Result<()> {
/// use idem_runtime::{DeadLetters, LetterEdit, LetterFilter, LetterState};
///
/// let letters = DeadLetters::new(store, "ana");
/// for letter in letters.list(&LetterFilter::new().scope("bill").limit(20)).await? {
///     println!("{} {:?} {:?}", letter.id, letter.key, letter.cause);
/// }
/// letters.discard(&LetterFilter::id(17), "a test order").await?;
/// letters.edit(18, Some(br#"{"event_id":"e18","cents":100}"#), "cents were missing").await?;
/// let edit = LetterEdit::new().header("idempotency-key", "e19");
/// letters.edit_event(19, &edit, "it had none").await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct DeadLetters<S> {
    store: S,
    by: String,
}

impl<S: Store> DeadLetters<S> {
    /// The dead letters of this store, for a person or a tool of this name.
    pub fn new(store: S, by: impl Into<String>) -> Self {
        Self { store, by: by.into() }
    }

    /// Dead letters, and events that wait behind one, in the order of their numbers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>> {
        self.store.letters(filter).await
    }

    /// What was done with a dead letter, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn history(&self, id: i64) -> Result<Vec<LetterNote>> {
        self.store.history(id).await
    }

    /// Drops dead letters that are not settled yet, for a reason, and returns how many. Their keys
    /// stay known: the event delivered again is a duplicate. A parked key is released: what waits
    /// behind it is worked.
    ///
    /// # Errors
    /// When the database fails; some may be dropped then, and the same call goes on.
    pub async fn discard(&self, filter: &LetterFilter, reason: &str) -> Result<u64> {
        let mut dropped = 0;
        for letter in self.store.letters(filter).await? {
            if !letter.state.is_settled() {
                let (action, by) = (LetterAction::Dropped, self.by.as_str());
                let settlement = Settlement { action, by, note: Some(reason), edit: None };
                dropped += u64::from(settle(&self.store, letter.id, &settlement).await?);
            }
        }
        Ok(dropped)
    }

    /// Puts another payload (`None`: a tombstone) in place of that of a dead letter that is not
    /// settled yet, for a reason. It takes effect when the letter is replayed; what the event came
    /// with is kept.
    ///
    /// # Errors
    /// As [`edit_event`](Self::edit_event).
    pub async fn edit(&self, id: i64, payload: Option<&[u8]>, reason: &str) -> Result<()> {
        let edit = match payload {
            Some(payload) => LetterEdit::new().payload(Bytes::copy_from_slice(payload)),
            None => LetterEdit::new().tombstone(),
        };
        self.edit_event(id, &edit, reason).await
    }

    /// Puts something in place of the payload, headers or message key of a dead letter's event, if the
    /// letter is not settled yet, for a reason: also a key where the handler takes it from there. It
    /// takes effect when the letter is replayed; what the event came with is kept.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is no such letter, it is settled, or it is to have another
    /// message key while it is parked by the one that it has; otherwise the database failed.
    pub async fn edit_event(&self, id: i64, edit: &LetterEdit, reason: &str) -> Result<()> {
        let what = What::Edit { edit, by: &self.by, reason };
        match done(&self.store, id, &what).await? {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Config,
                format!("dead letter {id} is not there, or was replayed or dropped"),
            )),
        }
    }
}

/// Settles a letter in a transaction of its own; answers whether it was still open.
pub(crate) async fn settle<S: Store>(
    store: &S,
    id: i64,
    settlement: &Settlement<'_>,
) -> Result<bool> {
    done(store, id, &What::Settle(*settlement)).await
}

/// What is done with a letter.
enum What<'a> {
    Settle(Settlement<'a>),
    Edit { edit: &'a LetterEdit, by: &'a str, reason: &'a str },
}

/// Does it in a transaction of its own; answers whether the letter was still open.
async fn done<S: Store>(store: &S, id: i64, what: &What<'_>) -> Result<bool> {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    let mut unknown = false;
    loop {
        let error = match try_settle(store, id, what, unknown).await {
            Ok(settled) => return Ok(settled),
            Err(error) => error,
        };
        unknown |= error.kind() == ErrorKind::UnknownCommit;
        if !error.is_retryable() || backoff.tries() >= TRIES {
            return Err(error.context(format_args!("dead letter {id}")));
        }
        backoff.wait().await;
    }
}

async fn try_settle<S: Store>(store: &S, id: i64, what: &What<'_>, unknown: bool) -> Result<bool> {
    let writer = Writer::Direct { attempt: Uuid::new_v4() };
    let mut tx = store.begin(&writer, &Terms::default()).await?;
    let settled = async {
        let letter = match store.lock_letter(&mut tx, id).await? {
            Some(letter) if !letter.state.is_settled() => letter,
            // After a commit whose answer was lost it is this call that closed it.
            Some(_) => return Ok(Some(unknown)),
            None => return Ok(Some(false)),
        };
        match what {
            What::Settle(settlement) => store.settle_letter(&mut tx, id, settlement).await?,
            What::Edit { edit, by, reason } => {
                edit.check(&letter)?;
                let headers = edit.headers_in(&letter);
                let note = edit.note(reason);
                let (action, edit) = (LetterAction::Edited, Some(edit.in_store(headers.as_ref())));
                let settlement = Settlement { action, by, note: Some(&note), edit };
                store.settle_letter(&mut tx, id, &settlement).await?;
            }
        }
        sealed(store, &mut tx, &writer).await?;
        Ok(None)
    }
    .await;
    match settled {
        Ok(None) => store.commit(tx).await.map(|()| true),
        Ok(Some(before)) => {
            store.rollback(tx).await;
            Ok(before)
        }
        Err(error) => {
            store.rollback(tx).await;
            Err(error)
        }
    }
}
