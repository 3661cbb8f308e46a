//! Free TCP ports on 127.0.0.1.
//!
//! Nothing reserves a port between finding it and the server's bind, so whoever starts a server with
//! a port from here must be ready to try again with another (see `server::is_port_clash`).
//!
//! Ports come from *below* the range that the kernel gives to outgoing connections, and that is
//! about correctness, not taste: a killed server's clients keep reconnecting to its port, and inside
//! that range one of them is sooner or later given that very port as its own, connects to itself,
//! and the server cannot be restarted.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use crate::{Error, random};

/// The lowest port to use, above what usually has a fixed owner.
const LOWEST: u16 = 20_000;
const ATTEMPTS: usize = 64;

/// A port that nobody listened on a moment ago.
pub(crate) fn free_port() -> Result<u16, Error> {
    let outgoing = first_outgoing_port();
    for _ in 0..ATTEMPTS {
        let candidate = match outgoing.checked_sub(LOWEST) {
            Some(width) if width > 0 => LOWEST + random::below(width)?,
            // The machine gives low ports to outgoing connections too: take what the kernel offers.
            _ => 0,
        };
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)) {
            let address =
                listener.local_addr().map_err(Error::io("read the port that was bound"))?;
            return Ok(address.port());
        }
    }
    Err(Error::new(format!(
        "found no free port on 127.0.0.1 in {ATTEMPTS} attempts from {LOWEST} to {outgoing}"
    )))
}

/// `N` different free ports.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    let mut ports = [0; N];
    for index in 0..N {
        ports[index] = loop {
            let port = free_port()?;
            if !ports.contains(&port) {
                break port;
            }
        };
    }
    Ok(ports)
}

fn first_outgoing_port() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_can_be_bound() {
        let [one, other] = free_ports().unwrap();
        assert_ne!(one, other);
        TcpListener::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, other)).unwrap();
    }
}
