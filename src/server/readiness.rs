//! Tells systemd that the server is ready (`Type=notify`): one datagram to the socket that NOTIFY_SOCKET names. From the
//! manual page sd_notify(3).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that the server is ready, if a service manager wants to know.
pub fn notify() {
    if let Some(name) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&name, b"READY=1\n")
    {
        log::warn!("cannot tell the service manager that the server is ready: {error}");
    }
}

/// A name that begins with `@` is one of the abstract namespace, which has no file.
fn send(name: &OsStr, state: &[u8]) -> io::Result<()> {
    let addr = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state, &addr).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_datagram_to_a_file_or_to_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let of_file = UnixDatagram::bind(&path).unwrap();
        let name = format!("@kvstore-test-{}", std::process::id());
        let abstract_addr = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let of_name = UnixDatagram::bind_addr(&abstract_addr).unwrap();
        for (name, socket) in [(path.as_os_str(), of_file), (OsStr::new(&name), of_name)] {
            send(name, b"READY=1\n").unwrap();
            let mut datagram = [0; 99];
            let len = socket.recv(&mut datagram).unwrap();
            assert_eq!(&datagram[..len], b"READY=1\n");
        }
        assert!(send(OsStr::new("/nowhere/notify"), b"READY=1\n").is_err());
    }
}
