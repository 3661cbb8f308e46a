//! Asks a server whether it accepts connections, with the first message of PostgreSQL's protocol.
//!
//! An open port is not enough: while it starts or recovers, the server takes connections only to
//! refuse them. Once it asks for a password, it is ready; no password is sent.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::cluster::{DATABASE, SUPERUSER};

const PATIENCE: Duration = Duration::from_secs(2);
/// Version 3.0 of the protocol.
const VERSION: u32 = 196_608;
const AUTHENTICATION: u8 = b'R';

/// `Ok` when the server at `port` is ready to check a password.
pub(super) fn probe(port: u16) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&startup_message())?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    match kind {
        [AUTHENTICATION] => Ok(()),
        _ => Err(io::Error::other("the server is not ready for clients yet")),
    }
}

fn startup_message() -> Vec<u8> {
    let mut body = VERSION.to_be_bytes().to_vec();
    body.extend(format!("user\0{SUPERUSER}\0database\0{DATABASE}\0\0").bytes());
    // The length counts itself. The body is some 40 bytes long, so it fits.
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &body].concat()
}
