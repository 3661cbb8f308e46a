//! Asking the addresses of a registry over HTTP.
//!
//! The requests block a thread of their own; there are a few in the life of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::format::Schema;
use crate::registry::Settings;
use crate::registry::found::{self, Found};

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 8 << 20;

/// How many schemas one may refer to, over all its references.
const REFERENCES: usize = 200;

/// What a registry says of an id.
pub(super) enum Answer {
    Schema(Arc<Schema>),
    /// There is one, and it can never be used.
    Unusable(String),
    /// All addresses say that there is none, or none that is valid.
    Unknown,
    /// It does not let this client read the schema: somebody has to set that right.
    Refused(String),
    /// It did not answer, or something else did.
    Failed(String),
}

pub(super) struct Client {
    connection: Arc<Connection>,
    urls: Vec<String>,
    /// The one of them that answered last.
    first: AtomicUsize,
}

struct Connection {
    agent: Agent,
    authorization: Option<String>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(settings.timeout));
        if let Some(roots) = certificates(&settings.certificates).filter(|roots| !roots.is_empty())
        {
            let tls = TlsConfig::builder().root_certs(RootCerts::from(roots)).build();
            config = config.tls_config(tls);
        }
        let agent = config.build().new_agent();
        let connection = Connection { agent, authorization: settings.authorization.clone() };
        let urls = settings.urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Self { connection: Arc::new(connection), urls, first: AtomicUsize::new(0) }
    }

    /// Asks each address, beginning with the one that answered last, until one has the schema.
    pub(super) async fn ask(&self, id: u32) -> Answer {
        let mut failed = Vec::new();
        let mut refused = true;
        let first = self.first.load(Relaxed);
        let others = (0..self.urls.len()).filter(|index| *index != first);
        for index in std::iter::once(first).chain(others) {
            let (connection, url) = (Arc::clone(&self.connection), self.urls[index].clone());
            let asked = tokio::task::spawn_blocking(move || connection.schema(&url, id)).await;
            match asked {
                Ok(Answer::Unknown) => {}
                Ok(Answer::Refused(why)) => failed.push(format!("{}: {why}", self.urls[index])),
                Ok(Answer::Failed(why)) => {
                    refused = false;
                    failed.push(format!("{}: {why}", self.urls[index]));
                }
                Ok(answer) => {
                    self.first.store(index, Relaxed);
                    return answer;
                }
                Err(_) => {
                    refused = false;
                    failed.push(format!("{}: the request was broken off", self.urls[index]));
                }
            }
        }
        match failed.is_empty() {
            true => Answer::Unknown,
            // One that did not answer may know it.
            false if refused => Answer::Refused(failed.join("; ")),
            false => Answer::Failed(failed.join("; ")),
        }
    }
}

impl Connection {
    fn schema(&self, url: &str, id: u32) -> Answer {
        match self.resolved(url, id) {
            Ok(answer) | Err(answer) => answer,
        }
    }

    /// The schema with what it refers to.
    fn resolved(&self, url: &str, id: u32) -> Result<Answer, Answer> {
        let found = self.get(&format!("{url}/schemas/ids/{id}"))?;
        if let Some(kind) = found.schema_type.as_deref().filter(|kind| *kind != "AVRO") {
            let why = format!("schema {id} of the registry is of the type {kind:.20}, not AVRO");
            return Ok(Answer::Unusable(why));
        }
        let mut names: Vec<String> = Vec::new();
        let mut texts = Vec::new();
        let mut waiting = found.references;
        while let Some(reference) = waiting.pop() {
            if names.contains(&reference.name) {
                continue;
            }
            if names.len() == REFERENCES {
                let why = format!("schema {id} refers to more than {REFERENCES} others");
                return Ok(Answer::Unusable(why));
            }
            let subject = found::escaped(&reference.subject);
            let version = reference.version;
            let its = self.get(&format!("{url}/subjects/{subject}/versions/{version}"))?;
            names.push(reference.name);
            texts.push(its.schema);
            waiting.extend(its.references);
        }
        Ok(match Schema::parse(&found.schema, &texts) {
            Some(schema) => Answer::Schema(Arc::new(schema)),
            None => Answer::Unusable(format!("schema {id} of the registry is not an Avro schema")),
        })
    }

    fn get(&self, url: &str) -> Result<Found, Answer> {
        let accept = "application/vnd.schemaregistry.v1+json, application/json";
        let mut request = self.agent.get(url).header("accept", accept);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let failed = |error: ureq::Error| Answer::Failed(error.to_string());
        let mut response = request.call().map_err(failed)?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(LONGEST).read_to_string();
        match (status, body) {
            (200, Ok(body)) => serde_json::from_str(&body).map_err(|_| {
                Answer::Failed("it answered something that is not a registered schema".into())
            }),
            (200, Err(error)) => Err(failed(error)),
            // Not found can be the schema, or the whole registry at a wrong address.
            (404 | 422, Ok(body)) if found::is_unknown(&body) => Err(Answer::Unknown),
            (401, _) => Err(Answer::Refused(
                "it answered 401, it does not know the user: check the user and the password in \
                 `.basic_auth(..)`"
                    .into(),
            )),
            (403, _) => Err(Answer::Refused(
                "it answered 403, the user may not read this schema: give it the permission, or check \
                 the user in `.basic_auth(..)`"
                    .into(),
            )),
            (_, Ok(body)) => Err(Answer::Failed(match found::error_code(&body) {
                Some(code) if code != u32::from(status) => {
                    format!("it answered {status} (error code {code})")
                }
                _ => format!("it answered {status}"),
            })),
            (_, Err(_)) => Err(Answer::Failed(format!("it answered {status}"))),
        }
    }
}

/// The certificates; `None` when one of them is none.
pub(super) fn certificates(pem: &[Vec<u8>]) -> Option<Vec<Certificate<'static>>> {
    pem.iter().map(|pem| Certificate::from_pem(pem).ok()).collect()
}

/// Base64 (RFC 4648, section 4), for the header of basic authentication.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(bits);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 0x3f;
            let missing = digit > chunk.len();
            text.push(if missing { '=' } else { char::from(DIGITS[index as usize]) });
        }
    }
    text
}
