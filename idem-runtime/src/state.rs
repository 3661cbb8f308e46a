//! State that handlers ask for by type: clients, settings, caches.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Shared state as a handler's parameter.
///
/// Give the value to the builder once with `.state(value)`; every handler that has a `State<T>`
/// parameter gets it.
///
/// ```
/// use idem_runtime::State;
///
/// struct Mailer { from: String }
///
/// fn greeting(mailer: State<Mailer>) -> String {
///     format!("from {}", mailer.from)
/// }
/// assert_eq!(greeting(State::new(Mailer { from: "us".into() })), "from us");
/// ```
pub struct State<T: ?Sized>(Arc<T>);

impl<T> State<T> {
    /// State around a value, for calling a handler's function directly in a test.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: ?Sized> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").field(&&*self.0).finish()
    }
}

/// The values given with `.state(..)`, by type.
#[derive(Clone, Default)]
pub struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    /// Keeps a value. A second one of the same type replaces the first.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of this type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        let value = Arc::clone(self.0.get(&TypeId::of::<T>())?);
        value.downcast::<T>().ok().map(State)
    }

    pub(crate) fn has(&self, need: &Need) -> bool {
        self.0.contains_key(&need.id)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "States({})", self.0.len())
    }
}

/// The types of state a handler needs: checked before the first event.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    pub(crate) states: Vec<Need>,
    /// Whether it asks for the context of its events.
    pub(crate) contexts: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl Needs {
    /// Asks for a `T`.
    pub fn state<T: Send + Sync + 'static>(&mut self) {
        self.states.push(Need { id: TypeId::of::<T>(), name: type_name::<T>() });
    }

    /// Asks for the contexts of the events.
    pub(crate) fn contexts(&mut self) {
        self.contexts = true;
    }
}
