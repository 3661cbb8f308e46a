//! Handlers that do what a test's script says, and the record of their calls.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::event::{DecodeError, Event};
use crate::failure::Failure;
use crate::format::Encoded;
use crate::format::decode_json;
use crate::handler::{
    Call, EventOf, Handler, KeySource, KeyedByEvent, Many, One, Param, Subscriber,
};
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
    /// Returns an error that is marked as permanent.
    FailForGood,
    /// A statement fails for its data, which trying again does not cure.
    FailStatementForGood,
    /// Writes, and the connection breaks.
    LoseConnection,
    /// Writes, and never returns.
    Hang,
    /// Stays for a moment, and works then.
    Nap,
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
    /// How many calls of a batch handler there were, with the ids of each.
    calls: Vec<Vec<String>>,
    /// Whether a batch handler says which event failed; off by how much.
    names: Option<usize>,
    running: usize,
    most_running: usize,
}

/// A call that is under way.
struct Running(Script);

impl Running {
    fn of(script: &Script) -> Self {
        let mut lines = script.0.lock().unwrap();
        lines.running += 1;
        lines.most_running = lines.most_running.max(lines.running);
        drop(lines);
        Self(script.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().running -= 1;
    }
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

    /// A batch handler says which event failed, or one that stands so much behind it.
    pub(super) fn name_events(&self, off: usize) {
        self.0.lock().unwrap().names = Some(off);
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

    /// What batch handlers were given, call by call.
    pub(super) fn calls(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().calls.clone()
    }

    /// How many calls were under way at once, at most, since this was asked last.
    pub(super) fn most_running(&self) -> usize {
        let mut lines = self.0.lock().unwrap();
        let running = lines.running;
        std::mem::replace(&mut lines.most_running, running)
    }

    fn line(&self, scope: &'static str, id: &str, cx: &Context) -> Option<Do> {
        let mut lines = self.0.lock().unwrap();
        let offset = cx.offset().unwrap_or(-1);
        lines.ran.push(Ran { scope, id: id.to_owned(), offset, attempt: cx.attempt() });
        let who = (scope, id.to_owned());
        let next = lines.next.get_mut(&who).and_then(VecDeque::pop_front);
        next.or_else(|| lines.always.get(&who).cloned())
    }
}

pub(super) async fn perform(
    scope: &'static str,
    order: Order,
    effect: String,
    (script, cx, tx): (&Script, &Context, &mut MemoryConnection),
) -> Result<(), Failure> {
    let act = script.line(scope, &order.id, cx);
    let _running = Running::of(script);
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
        Some(Do::FailForGood) => return Err(Failure::permanent("the test made it fail for good")),
        Some(Do::FailStatementForGood) => {
            tx.insert(scope, effect.as_str()).await?;
            tx.fail_permanently().await?;
        }
        Some(Do::LoseConnection) => {
            tx.insert(scope, effect.as_str()).await?;
            tx.lose_connection().await?;
        }
        Some(Do::Hang) => {
            tx.insert(scope, effect.as_str()).await?;
            std::future::pending::<()>().await;
        }
        Some(Do::Nap) => tokio::time::sleep(Duration::from_millis(5)).await,
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
    pub(super) id: String,
}

impl Order {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned() }
    }
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

            fn key(event: &EventOf<Self>, source: Option<&Event>) -> Result<Key, KeyError> {
                assert_ne!(event.id, "panic", "the test made the key panic");
                match Self::KEY {
                    KeySource::Offset => Key::offset(source.unwrap()),
                    _ => Key::of(&event.id),
                }
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

            fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError> {
                decode_json(&event)
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

impl KeyedByEvent for Bill {}

/// All new events of a batch at once; the effects are the ids.
pub(super) struct Bulk;

impl Handler for Bulk {
    type Store = Memory;
    type Input = Many<Order>;
    const SCOPE: &'static str = "bulk";

    fn needs(needs: &mut Needs) {
        <State<Script> as Param<'_, Self>>::needs(needs);
        <&[Context] as Param<'_, Self>>::needs(needs);
    }

    fn key(event: &EventOf<Self>, _source: Option<&Event>) -> Result<Key, KeyError> {
        Key::of(&event.id)
    }

    async fn handle(Many(orders): Many<Order>, mut call: Call<'_, Self>) -> Result<(), Failure> {
        let script = <State<Script> as Param<'_, Self>>::take(&mut call)?;
        let contexts = <&[Context] as Param<'_, Self>>::take(&mut call)?;
        let tx = <&mut MemoryConnection as Param<'_, Self>>::take(&mut call)?;
        let ids: Vec<_> = orders.iter().map(|order| order.id.clone()).collect();
        let keys: Vec<_> = contexts.iter().map(|cx| cx.key().to_string()).collect();
        for ((key, id), cx) in keys.iter().zip(&ids).zip(contexts) {
            // Without a key, its place.
            let expected = match (id.as_str(), cx.partition(), cx.offset()) {
                ("", Some(partition), Some(offset)) => format!("{TOPIC}/{partition}/{offset}"),
                _ => id.clone(),
            };
            assert_eq!(*key, expected, "a context for each event, in order");
        }
        let names = {
            let mut lines = script.0.lock().unwrap();
            lines.calls.push(ids);
            lines.names
        };
        for (index, (order, cx)) in orders.into_iter().zip(contexts).enumerate() {
            let effect = order.id.clone();
            let done = perform("bulk", order, effect, (&script, cx, &mut *tx)).await;
            done.map_err(|failure| match names {
                Some(off) => failure.of_event(index + off),
                None => failure,
            })?;
        }
        Ok(())
    }
}

impl Subscriber for Bulk {
    const TOPICS: &'static [&'static str] = &[TOPIC];

    fn decode(event: Encoded<'_>) -> Result<EventOf<Self>, DecodeError> {
        decode_json(&event)
    }
}
