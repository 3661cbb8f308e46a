//! Handlers that do what a test's script says, and the record of their calls.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::event::{DecodeError, Event, decode_json};
use crate::failure::Failure;
use crate::handler::{Call, EventOf, Handler, KeySource, One, Param, Subscriber};
use crate::key::{Key, KeyError};
use crate::memory::{Memory, MemoryConnection};
use crate::pipeline::tests::broker::TOPIC;
use crate::pipeline::tests::harness::DEADLINE;
use crate::state::{Needs, State};

/// What a handler does with an event instead of its work.
#[derive(Debug, Clone)]
pub(super) enum Do {
    /// Returns an error.
    Fail,
    Panic,
    /// Writes, then a statement fails and its error is returned.
    FailStatement,
    /// A statement fails, and the handler goes on as if nothing were.
    Swallow,
    /// The database fails in a way that passes.
    Transient,
    /// Writes and ends the transaction, and says nothing.
    Commit,
    Rollback,
    /// Works, unless the row is there already, which is an error, as with a unique index.
    Unique,
    /// Stays until the gate is opened, and works then.
    Wait(Gate),
    /// As `Wait`, then as `Fail`.
    WaitThenFail(Gate),
    /// As `Wait`, then as `Unique`.
    WaitUnique(Gate),
}

/// One call of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) scope: &'static str,
    pub(super) id: String,
    pub(super) offset: i64,
    pub(super) attempt: u32,
}

#[derive(Clone, Default)]
pub(super) struct Script(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    next: HashMap<(&'static str, String), VecDeque<Do>>,
    always: HashMap<(&'static str, String), Do>,
    ran: Vec<Ran>,
}

impl Script {
    /// `bill` does these things, one per run, when it is given the event with this id.
    pub(super) fn on(&self, id: &str, acts: impl IntoIterator<Item = Do>) {
        self.on_in("bill", id, acts);
    }

    pub(super) fn on_in(&self, scope: &'static str, id: &str, acts: impl IntoIterator<Item = Do>) {
        let mut lines = self.0.lock().unwrap();
        lines.next.entry((scope, id.to_owned())).or_default().extend(acts);
    }

    /// What it does at every further run.
    pub(super) fn always(&self, scope: &'static str, id: &str, act: Do) {
        self.0.lock().unwrap().always.insert((scope, id.to_owned()), act);
    }

    /// From now on it works.
    pub(super) fn mend(&self) {
        let mut lines = self.0.lock().unwrap();
        lines.next.clear();
        lines.always.clear();
    }

    /// The calls so far.
    pub(super) fn ran(&self) -> Vec<Ran> {
        self.0.lock().unwrap().ran.clone()
    }

    /// The ids `bill` was called with, in order.
    pub(super) fn ids(&self) -> Vec<String> {
        self.ran().into_iter().filter(|it| it.scope == "bill").map(|it| it.id).collect()
    }

    /// The attempts at an event that `bill` was told of.
    pub(super) fn attempts(&self, id: &str) -> Vec<u32> {
        let of = |it: &Ran| it.scope == "bill" && it.id == id;
        self.ran().into_iter().filter(of).map(|it| it.attempt).collect()
    }

    fn line(&self, scope: &'static str, id: &str, cx: &Context) -> Option<Do> {
        let mut lines = self.0.lock().unwrap();
        let offset = cx.offset().unwrap();
        lines.ran.push(Ran { scope, id: id.to_owned(), offset, attempt: cx.attempt() });
        let who = (scope, id.to_owned());
        let next = lines.next.get_mut(&who).and_then(VecDeque::pop_front);
        next.or_else(|| lines.always.get(&who).cloned())
    }
}

async fn perform(
    scope: &'static str,
    order: Order,
    effect: String,
    (script, cx, tx): (&Script, &Context, &mut MemoryConnection),
) -> Result<(), Failure> {
    let act = script.line(scope, &order.id, cx);
    match act {
        None => {}
        Some(Do::Fail) => return Err(Failure::new("the test made it fail")),
        // As `panic!`, without the noise.
        Some(Do::Panic) => std::panic::resume_unwind(Box::new("the test made it panic")),
        Some(Do::FailStatement) => {
            tx.insert(scope, effect.as_str()).await?;
            tx.fail_statement().await?;
        }
        Some(Do::Swallow) => {
            tx.insert(scope, effect.as_str()).await?;
            let _ = tx.fail_statement().await;
            return Ok(());
        }
        Some(Do::Transient) => tx.fail_transiently().await?,
        Some(Do::Commit) => {
            tx.insert(scope, effect.as_str()).await?;
            let _ = tx.commit_behind_back().await;
            return Ok(());
        }
        Some(Do::Rollback) => {
            tx.insert(scope, effect.as_str()).await?;
            tx.rollback_behind_back().await?;
            return Ok(());
        }
        Some(Do::Unique) => unique(scope, &effect, tx).await?,
        Some(Do::Wait(gate)) => gate.pass().await,
        Some(Do::WaitThenFail(gate)) => {
            gate.pass().await;
            return Err(Failure::new("the test made it fail"));
        }
        Some(Do::WaitUnique(gate)) => {
            gate.pass().await;
            unique(scope, &effect, tx).await?;
        }
    }
    tx.insert(scope, effect).await?;
    Ok(())
}

async fn unique(scope: &str, effect: &str, tx: &mut MemoryConnection) -> Result<(), Failure> {
    if tx.rows(scope).await?.iter().any(|row| row == effect) {
        tx.fail_statement().await?;
    }
    Ok(())
}

/// Where a handler stays until the test lets it go.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<(Semaphore, Semaphore)>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new((Semaphore::new(0), Semaphore::new(0))))
    }

    async fn pass(&self) {
        self.0.0.add_permits(1);
        self.0.1.acquire().await.unwrap().forget();
    }

    /// Waits until a handler is there.
    pub(super) async fn reached(&self) {
        let reached = tokio::time::timeout(DEADLINE, self.0.0.acquire()).await;
        reached.expect("no handler came to the gate").unwrap().forget();
    }

    /// Lets one through.
    pub(super) fn open(&self) {
        self.0.1.add_permits(1);
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Order {
    id: String,
}

macro_rules! handler {
    ($name:ident, $scope:literal, $key:expr, $effect:expr) => {
        pub(super) struct $name;

        impl Handler for $name {
            type Store = Memory;
            type Input = One<Order>;
            const SCOPE: &'static str = $scope;
            const KEY: KeySource = $key;

            fn needs(needs: &mut Needs) {
                <State<Script> as Param<'_, Self>>::needs(needs);
                <&Context as Param<'_, Self>>::needs(needs);
            }

            fn key(event: &EventOf<Self>, _source: Option<&Event>) -> Result<Key, KeyError> {
                assert_ne!(event.id, "panic", "the test made the key panic");
                Key::of(&event.id)
            }

            async fn handle(
                One(order): One<Order>,
                mut call: Call<'_, Self>,
            ) -> Result<(), Failure> {
                let script = <State<Script> as Param<'_, Self>>::take(&mut call)?;
                let cx = <&Context as Param<'_, Self>>::take(&mut call)?;
                let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
                let effect: fn(&Order, &Context) -> String = $effect;
                let effect = effect(&order, cx);
                perform($scope, order, effect, (&script, cx, tx)).await
            }
        }

        impl Subscriber for $name {
            const TOPICS: &'static [&'static str] = &[TOPIC];

            fn decode(event: &Event) -> Result<EventOf<Self>, DecodeError> {
                decode_json(event)
            }
        }
    };
}

// Markers in rows; the effect is the event's id.
handler!(Bill, "bill", KeySource::Event, |order, _| order.id.clone());
handler!(Audit, "audit", KeySource::Event, |order, _| order.id.clone());
// The position is the marker; the effect is the event's place.
handler!(Count, "count", KeySource::Offset, |_, cx| {
    format!("{}/{}", cx.partition().unwrap(), cx.offset().unwrap())
});
