//! Asks a broker whether it serves clients, with the one request of Kafka's protocol this needs.
//!
//! An open port is not enough: the broker accepts connections before it has joined its cluster, and
//! something else might listen there. An answer that lists a broker at this very port is enough.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);
/// Api key 3 (Metadata), version 1, correlation id 7, client id "idem", and an empty array of
/// topics, which from version 1 on means none.
const METADATA_REQUEST: &[u8] =
    b"\x00\x00\x00\x12\x00\x03\x00\x01\x00\x00\x00\x07\x00\x04idem\x00\x00\x00\x00";
/// One broker's entry is a few dozen bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// `Ok` when the broker at `port` says that it is part of the cluster.
pub(super) fn probe(port: u16) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(METADATA_REQUEST)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST_ANSWER {
        return Err(other("the answer is none of kafka's"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    match first_broker_port(&answer) {
        Some(found) if found == u32::from(port) => Ok(()),
        Some(found) => Err(other(&format!("a broker at port {found} answered"))),
        None => Err(other("the broker has not joined its cluster yet")),
    }
}

/// The port of the first broker in an answer: correlation id, number of brokers, and of the first
/// its id, its host (length, then text) and its port.
fn first_broker_port(answer: &[u8]) -> Option<u32> {
    let number = |at: usize| {
        let bytes = answer.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let host_length = |at: usize| {
        let bytes = answer.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_be_bytes(bytes.try_into().ok()?)))
    };
    if number(0)? != 7 || number(4)? == 0 {
        return None;
    }
    number(14 + host_length(12)?)
}

fn other(message: &str) -> io::Error {
    io::Error::other(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_an_answer_and_from_nothing_else() {
        let brokers = b"\0\0\0\x07\0\0\0\x01\0\0\0\x01\0\x09127.0.0.1\0\0\x23\x84\xff\xff";
        assert_eq!(first_broker_port(brokers), Some(9092));
        assert_eq!(first_broker_port(b"\0\0\0\x07\0\0\0\0"), None);
        assert_eq!(first_broker_port(b"HTTP/1.1 400 Bad Request"), None);
    }

    #[test]
    fn the_request_has_the_length_it_says() {
        assert_eq!(METADATA_REQUEST.len(), 4 + 0x12);
    }
}
