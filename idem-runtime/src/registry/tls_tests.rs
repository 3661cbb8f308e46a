//! A registry behind TLS: whose certificate is believed, and whose is not.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

const AUTHORITY: &[u8] = include_bytes!("tls/ca.pem");
const OTHER: &[u8] = include_bytes!("tls/other.pem");

/// Answers each question with one schema, to those who believe who it is.
struct Secure {
    address: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Secure {
    fn start() -> Self {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Nothing is said by whoever does not believe it, nor by the one who ends this.
                match stream.map_err(drop).and_then(|it| answer(it, &config)) {
                    Ok(End::Client) | Err(()) => {}
                    Ok(End::Test) => return,
                }
            }
        });
        Self { address, serving: Some(serving) }
    }

    fn registry(&self) -> SchemaRegistry {
        SchemaRegistry::new(format!("https://{}", self.address))
    }
}

enum End {
    Client,
    Test,
}

fn answer(stream: TcpStream, config: &Arc<ServerConfig>) -> Result<End, ()> {
    let mut first = [0];
    if stream.peek(&mut first).map_err(drop)? == 0 {
        return Ok(End::Test);
    }
    let connection = ServerConnection::new(Arc::clone(config)).map_err(drop)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut line = String::new();
    while line.trim_end() != "" || line.is_empty() {
        line.clear();
        if reader.read_line(&mut line).map_err(drop)? == 0 {
            return Ok(End::Client);
        }
    }
    let body = r#"{"schema": "\"string\""}"#;
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}", body.len());
    let stream = reader.get_mut();
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).map_err(drop)?;
    stream.conn.send_close_notify();
    stream.flush().map_err(drop)?;
    Ok(End::Client)
}

impl Drop for Secure {
    fn drop(&mut self) {
        // Connects and says nothing.
        drop(TcpStream::connect(self.address));
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

async fn ask(registry: SchemaRegistry) -> std::result::Result<(), String> {
    let schemas = registry.schemas(&BTreeSet::from([7])).await;
    schemas.map(|schemas| assert!(schemas.get(7).unwrap().is_ok())).map_err(|it| it.to_string())
}

#[tokio::test]
async fn a_registry_is_believed_when_its_certificate_is_signed_by_one_that_was_given() {
    let server = Secure::start();
    let registry = server.registry().root_certificate(AUTHORITY);
    assert_eq!(registry.mistakes(), Vec::<String>::new());
    assert_eq!(ask(registry).await, Ok(()));
    // One of several is enough.
    let registry = server.registry().root_certificate(OTHER).root_certificate(AUTHORITY);
    assert_eq!(ask(registry).await, Ok(()));
}

#[tokio::test]
async fn a_registry_whose_certificate_nobody_known_has_signed_is_away() {
    let server = Secure::start();
    for registry in [server.registry(), server.registry().root_certificate(OTHER)] {
        let error = ask(registry).await.unwrap_err();
        assert!(error.contains("schema 7 cannot be asked for"), "{error}");
        assert!(error.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_registry_at_another_address_than_its_certificate_says_is_away() {
    let server = Secure::start();
    let url = format!("https://localhost:{}", server.address.port());
    let error = ask(SchemaRegistry::new(url).root_certificate(AUTHORITY)).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
}
