//! The schemas of a schema registry: asked for once, kept, and waited for when the registry is away.
//!
//! Not here: who waits. A lane asks before it decodes a batch (`pipeline/schemas.rs`), a replay within
//! its transaction.

mod cache;
mod client;
mod flights;
mod found;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Known, Schemas};
use crate::registry::cache::Cache;
use crate::registry::client::{Answer, Client};
use crate::registry::flights::{Answered, Flights};

/// How often a registry has to say in a row that it does not know an id: a schema that was registered
/// a moment ago can be unknown to the instance that is asked.
const UNKNOWN_TRIES: u32 = 3;

/// The pauses between these questions, shortened by up to a half: a follower that lags is given seconds,
/// because its word costs an event.
const UNKNOWN_PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(4));

/// Where the schemas of Avro events are: a registry with the HTTP interface that Confluent's has, and
/// those of other vendors, too.
///
/// A schema is asked for when an event of it comes, and kept. **A registry that is away costs no
/// event**: the partition waits until it answers, and says so. So it does while the registry refuses
/// the user (401) or the schema to that user (403), which somebody has to set right.
///
/// An id that the registry does not know is a failure of the event, which becomes a dead letter unless
/// its handler says otherwise. That is believed only of the codes that say so by their documentation:
/// 404 with a code of the registry's own (40401, 40402, 40403), and 422 for a schema or a version that
/// is not valid (42201, 42202), said by all addresses and three times in a row, over some seconds. An id of 2³¹ or more is
/// none: it is not asked for.
///
/// ```
/// use std::time::Duration;
///
/// use idem_runtime::SchemaRegistry;
///
/// let registry = SchemaRegistry::new("https://registry-1:8081")
///     .url("https://registry-2:8081")
///     .basic_auth("reader", "hunter2")
///     .timeout(Duration::from_secs(3));
/// assert!(!format!("{registry:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
#[must_use = "give it to the builder: `.schema_registry(..)`"]
pub struct SchemaRegistry {
    settings: Settings,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Settings {
    urls: Vec<String>,
    authorization: Option<String>,
    certificates: Vec<Vec<u8>>,
    timeout: Duration,
    cache: usize,
}

/// What all clones have in common.
#[derive(Default)]
struct Shared {
    cache: Cache,
    client: OnceLock<Client>,
    flights: Flights,
}

impl SchemaRegistry {
    /// A registry at this address, such as `http://registry:8081`.
    pub fn new(url: impl Into<String>) -> Self {
        let settings = Settings {
            urls: vec![url.into()],
            authorization: None,
            certificates: Vec::new(),
            timeout: Duration::from_secs(5),
            cache: 1000,
        };
        Self { settings, shared: Arc::default() }
    }

    /// Another address of the same registry. They are asked one after the other, beginning with the
    /// one that answered last.
    pub fn url(self, url: impl Into<String>) -> Self {
        self.with(|settings| settings.urls.push(url.into()))
    }

    /// The user and the password, which never reach a log or an error.
    pub fn basic_auth(self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        let pair = format!("{}:{}", user.as_ref(), password.as_ref());
        let authorization = format!("Basic {}", client::base64(pair.as_bytes()));
        self.with(|settings| settings.authorization = Some(authorization))
    }

    /// A certificate (PEM) that the registry's certificate can be signed with. With one or more of
    /// them they alone are trusted; without, the roots that browsers trust.
    pub fn root_certificate(self, pem: impl Into<Vec<u8>>) -> Self {
        self.with(|settings| settings.certificates.push(pem.into()))
    }

    /// How long one request may take. Default: 5 s.
    pub fn timeout(self, time: Duration) -> Self {
        self.with(|settings| settings.timeout = time)
    }

    /// How many schemas are kept at most; those used longest ago are asked for again. Default: 1000.
    pub fn cache(self, schemas: usize) -> Self {
        self.with(|settings| settings.cache = schemas.max(1))
    }

    /// Other settings make another registry: nothing is shared with the one before.
    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings;
        change(&mut settings);
        Self { settings, shared: Arc::default() }
    }

    /// What is wrong with the settings.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut mistakes: Vec<_> = self.settings.urls.iter().filter_map(|it| mistake(it)).collect();
        if self.settings.timeout.is_zero() {
            mistakes.push("the schema registry's `.timeout(..)` leaves no time to answer".into());
        }
        if client::certificates(&self.settings.certificates).is_none() {
            mistakes.push(
                "the schema registry's `.root_certificate(..)` is not a certificate in PEM".into(),
            );
        }
        mistakes
    }

    /// The schemas of these ids; of one that cannot be used, why.
    ///
    /// # Errors
    /// [`ErrorKind::SchemaRegistry`] when the registry is away, or answers something else;
    /// [`ErrorKind::Config`] when it does not know the user, or does not let it read the schema.
    pub(crate) async fn schemas(&self, ids: &BTreeSet<u32>) -> Result<Schemas> {
        let mut schemas = HashMap::with_capacity(ids.len());
        for id in ids {
            let known = match self.shared.cache.get(*id) {
                Some(known) => known,
                None => self.asked(*id).await?,
            };
            schemas.insert(*id, known);
        }
        Ok(Schemas::of(schemas))
    }

    /// What the registry says of an id, to one for all who ask at the same time.
    async fn asked(&self, id: u32) -> Result<Known> {
        let Shared { cache, client, flights } = &*self.shared;
        let answered = flights.answer(id, async || {
            // An answer that came between the two looks.
            if let Some(known) = cache.get(id) {
                return Ok(known);
            }
            let known = ask(client.get_or_init(|| Client::new(&self.settings)), id).await?;
            cache.put(id, known.clone(), self.settings.cache);
            Ok(known)
        });
        answered.await.map_err(|(kind, why)| Error::new(kind, why))
    }
}

async fn ask(client: &Client, id: u32) -> Answered {
    let mut backoff = Backoff::new(UNKNOWN_PAUSES.0, UNKNOWN_PAUSES.1);
    loop {
        match client.ask(id).await {
            Answer::Schema(schema) => {
                tracing::debug!(id, "a schema was read from the registry");
                return Ok(Ok(schema));
            }
            Answer::Unusable(why) => return Ok(Err(why.into())),
            Answer::Unknown if backoff.tries() + 1 >= UNKNOWN_TRIES => {
                let why =
                    format!("the schema registry knows no schema {id}, or none that is valid");
                return Ok(Err(why.into()));
            }
            Answer::Unknown => backoff.wait().await,
            Answer::Refused(why) => {
                return Err((ErrorKind::Config, format!("schema {id} may not be read: {why}")));
            }
            Answer::Failed(why) => {
                let message = format!("schema {id} cannot be asked for: {why}");
                return Err((ErrorKind::SchemaRegistry, message));
            }
        }
    }
}

/// What is wrong with an address. It is not repeated where it may hold a password.
fn mistake(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else {
        return Some(
            "an address of the schema registry does not begin with `http://` or `https://`".into(),
        );
    };
    if rest.contains('@') {
        return Some(
            "an address of the schema registry has a user in it: give it with `.basic_auth(user, \
             password)`"
                .into(),
        );
    }
    let bad = |it: char| it.is_whitespace() || it.is_control() || matches!(it, '?' | '#');
    let host = rest.split('/').next().unwrap_or_default();
    (host.is_empty() || rest.contains(bad)).then(|| {
        format!("`{url}` is not an address of a schema registry, such as `http://registry:8081`")
    })
}

/// The addresses, and nothing secret.
impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> = match self.mistakes().is_empty() {
            true => self.settings.urls.iter().map(String::as_str).collect(),
            false => Vec::new(),
        };
        f.debug_struct("SchemaRegistry").field("urls", &urls).finish_non_exhaustive()
    }
}
