//! Connections, and whose fault it is if there is none.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use tokio::net::{TcpStream, UnixStream};

use crate::probe::{Found, Patient};

use super::apart::apart;

/// Connects over TCP.
pub(super) async fn tcp(patient: &Patient, address: &str) -> Result<TcpStream, Found> {
    let addresses = match address.parse() {
        Ok(address) => vec![address],
        Err(_) => resolve(patient, address).await?,
    };
    let mut last = Found::error(format!("{address} has no address"));
    for one in addresses {
        match TcpStream::connect(one).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = refused(&one.to_string(), &error),
        }
    }
    Err(last)
}

/// Who resolves names is part of this machine, not of the worker.
async fn resolve(patient: &Patient, address: &str) -> Result<Vec<SocketAddr>, Found> {
    let name = address.to_owned();
    let found = apart(patient, move || name.to_socket_addrs().map(Iterator::collect)).await?;
    found.map_err(|error| Found::error(format!("cannot resolve {address}: {error}")))
}

/// Connects to a unix socket.
pub(super) async fn unix(path: &str) -> Result<UnixStream, Found> {
    UnixStream::connect(path).await.map_err(|error| refused(path, &error))
}

/// A connection that was not made: the worker's failure, or this machine's.
fn refused(whom: &str, error: &io::Error) -> Found {
    let text = format!("cannot connect to {whom}: {error}");
    let ours = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRNOTAVAIL,
        libc::EACCES,
        libc::EPERM,
        libc::EAFNOSUPPORT,
        libc::ENETUNREACH,
    ];
    match error.raw_os_error() {
        Some(code) if ours.contains(&code) => Found::error(text),
        Some(_) => Found::fail(text),
        None => Found::error(text),
    }
}
