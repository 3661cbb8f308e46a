//! A wire between a store and its database that a test can cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

const PASS: u8 = 0;
const CUT_BEFORE_COMMIT: u8 = 1;
const CUT_AFTER_COMMIT: u8 = 2;

/// Passes everything on, until it is told to cut the next connection that commits.
#[derive(Clone)]
pub(crate) struct Proxy {
    port: u16,
    mode: Arc<AtomicU8>,
}

impl Proxy {
    pub(crate) async fn to(options: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mode = Arc::new(AtomicU8::new(PASS));
        let server = (options.get_host().to_owned(), options.get_port());
        let shared = mode.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the database");
                tokio::spawn(wire(client, server, shared.clone()));
            }
        });
        Self { port, mode }
    }

    pub(crate) fn options(&self, options: &PgConnectOptions) -> PgConnectOptions {
        options.clone().host("127.0.0.1").port(self.port)
    }

    /// The next COMMIT does not reach the server.
    pub(crate) fn cut_before_commit(&self) {
        self.mode.store(CUT_BEFORE_COMMIT, Ordering::SeqCst);
    }

    /// The answer to the next COMMIT does not reach the client.
    pub(crate) fn cut_after_commit(&self) {
        self.mode.store(CUT_AFTER_COMMIT, Ordering::SeqCst);
    }
}

async fn wire(client: TcpStream, server: TcpStream, mode: Arc<AtomicU8>) {
    let (mut client_reads, client_writes) = client.into_split();
    let (server_reads, mut server_writes) = server.into_split();
    let back = tokio::spawn(pass(server_reads, client_writes));
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = client_reads.read(&mut buffer).await {
        let commits = buffer[..n].windows(7).any(|it| it == b"COMMIT\0");
        let mode = if commits { mode.swap(PASS, Ordering::SeqCst) } else { PASS };
        if mode != PASS {
            back.abort();
        }
        if mode == CUT_BEFORE_COMMIT {
            return;
        }
        if server_writes.write_all(&buffer[..n]).await.is_err() {
            return;
        }
        if mode == CUT_AFTER_COMMIT {
            // Without an end of the stream the server has no reason to stop before it is done.
            std::mem::forget(server_writes);
            return;
        }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
