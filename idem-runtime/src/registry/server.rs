//! A schema registry that a test starts: a real HTTP server that answers as it is told.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// This status and this body.
    Now(u16, String),
    /// Reads the request, and says nothing until the server ends.
    Never,
}

pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// One message for each request.
    asked: Mutex<Receiver<()>>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    replies: Mutex<HashMap<String, Vec<Reply>>>,
    requests: Mutex<Vec<Request>>,
    asked: Sender<()>,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    /// A server at an address where there was one before, or is to be one.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, receiver) = channel();
        let shared = Arc::new(Shared {
            replies: Mutex::default(),
            requests: Mutex::default(),
            asked,
            ended: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.ended.load(SeqCst) {
                    return;
                }
                let (Ok(stream), serving) = (stream, Arc::clone(&serving)) else { continue };
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        Self { address, shared, asked: Mutex::new(receiver), accepting: Some(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests of this path so, one after the other, and all further ones like the last.
    pub(crate) fn on(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies = replies.into_iter().collect();
        self.shared.replies.lock().unwrap().insert(path.to_owned(), replies);
    }

    /// Answers an id with this schema.
    pub(crate) fn schema(&self, id: u32, schema: &str) {
        self.on(&format!("/schemas/ids/{id}"), [found(schema)]);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The paths that were asked for.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }

    /// Ends all connections.
    pub(crate) fn hang_up(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Waits, without holding up others, until one more request has come.
    pub(crate) async fn asked(&self) {
        let next = || self.asked.lock().unwrap().try_recv().is_ok();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !next() {
            assert!(std::time::Instant::now() < deadline, "the registry was not asked");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.hang_up();
        // Wakes the thread that accepts, which lets go of the address.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        self.open.lock().unwrap().push(stream.try_clone().unwrap());
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(request) = read(&mut reader) {
            let reply = self.reply(&request.path);
            self.requests.lock().unwrap().push(request);
            let _ = self.asked.send(());
            match reply {
                Reply::Now(status, body) => {
                    let answer = format!(
                        "HTTP/1.1 {status} As told\r\ncontent-type: application/json\r\n\
                         content-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
                Reply::Never => {}
            }
        }
    }

    fn reply(&self, path: &str) -> Reply {
        let mut replies = self.replies.lock().unwrap();
        match replies.get_mut(path) {
            Some(replies) if replies.len() > 1 => replies.remove(0),
            Some(replies) => replies[0].clone(),
            None => unknown(),
        }
    }
}

/// A registered schema.
pub(crate) fn found(schema: &str) -> Reply {
    Reply::Now(200, serde_json::json!({ "schema": schema }).to_string())
}

/// What a registry says of an id that it does not know.
pub(crate) fn unknown() -> Reply {
    let body = r#"{"error_code": 40403, "message": "Schema not found"}"#;
    Reply::Now(404, body.to_owned())
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut authorization = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|read| *read > 0)?;
        let header = header.trim_end();
        if header.is_empty() {
            return Some(Request { path, authorization });
        }
        if let Some((name, value)) = header.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = Some(value.to_owned());
        }
    }
}
