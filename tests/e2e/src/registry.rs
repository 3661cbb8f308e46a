//! A schema registry: the one answer of it that idem asks for, over real HTTP.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

/// A registry, until the process ends.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    answers: Arc<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    schemas: Mutex<HashMap<String, String>>,
    away: AtomicBool,
    asked: AtomicUsize,
}

impl Registry {
    /// Starts a registry without schemas.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answers = Arc::<Answers>::default();
        let serving = Arc::clone(&answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serving.serve(&stream));
            }
        });
        Self { address, answers }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Registers a schema.
    pub fn schema(&self, id: u32, schema: &str) {
        let body = serde_json::json!({ "schema": schema }).to_string();
        let mut schemas = self.answers.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        schemas.insert(format!("/schemas/ids/{id}"), body);
    }

    /// Whether it is out of order.
    pub fn away(&self, away: bool) {
        self.answers.away.store(away, SeqCst);
    }

    /// How many requests there were.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.answers.asked.load(SeqCst)
    }
}

impl Answers {
    fn serve(&self, mut stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines();
        while let Some(Ok(first)) = lines.next() {
            while let Some(Ok(header)) = lines.next() {
                if header.is_empty() {
                    break;
                }
            }
            self.asked.fetch_add(1, SeqCst);
            let (status, body) = self.answer(first.split(' ').nth(1).unwrap_or_default());
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} -\r\ncontent-length: {length}\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, path: &str) -> (u16, String) {
        if self.away.load(SeqCst) {
            return (503, String::new());
        }
        let schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        match schemas.get(path) {
            Some(body) => (200, body.clone()),
            None => (404, r#"{"error_code": 40403, "message": "Schema not found"}"#.to_owned()),
        }
    }
}
