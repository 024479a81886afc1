//! The Unix socket: a file that programs on this machine connect to, guarded by its permissions.
//!
//! A server that was killed leaves its file behind. So a file that nothing listens on is replaced, and one that a server
//! listens on is refused. The new file gets its name when it listens and has its permissions, so no client meets a
//! half-made one.

use super::StartError;
use super::listener::{accept_all, admit};
use super::pool::Pool;
use crate::clients::socket::Addr;
use crate::config::{Config, Id};
use rustix::net::shutdown;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that listens. Its file is removed on drop.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: &'static str,
    /// Device and number of the file, by which it is known again.
    file: (u64, u64),
}

impl UnixSocket {
    /// Listens as `unixsocket` says, if it says anything.
    pub fn listen(config: &Config) -> Result<Option<UnixSocket>, StartError> {
        let path = config.text(Id::Unixsocket);
        if path.is_empty() {
            return Ok(None);
        }
        let mode = u32::from_str_radix(&config.text(Id::Unixsocketperm), 8).unwrap_or_default();
        let backlog = config.int(Id::TcpBacklog) as i32;
        // Clients show it as their address for as long as the process lives.
        let path: &'static str = String::leak(path.to_string());
        let listening = bind(Path::new(path), mode, backlog);
        let (listener, file) =
            listening.map_err(|error| StartError::ListenUnix(path.into(), error))?;
        Ok(Some(UnixSocket { listener, path, file }))
    }

    /// Its path.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Accepts clients until shutdown.
    pub fn accept(&self, pool: &Pool) {
        let addr = Addr::Unix(self.path);
        let accept = || self.listener.accept().map(|(socket, _)| socket);
        accept_all(accept, &pool.engine.shutdown, "connections", |socket| {
            admit(pool, socket.into(), addr, addr);
        });
    }

    /// Stops listening; the accepting thread wakes with an error.
    pub fn close(&self) {
        // It fails only if that has happened already.
        let _ = shutdown(&self.listener, rustix::net::Shutdown::Both);
        // Another server may have replaced the file since.
        if identity(Path::new(self.path)).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(self.path);
        }
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        self.close();
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Makes the file under another name first. Without a mode, the process's umask decides.
fn bind(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, (u64, u64))> {
    check_free(path)?;
    let unfinished = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let listener = UnixListener::bind(&unfinished)?;
    let publish = || {
        if mode != 0 {
            fs::set_permissions(&unfinished, Permissions::from_mode(mode))?;
        }
        // std listens with a fixed backlog; listening again sets ours.
        rustix::net::listen(&listener, backlog)?;
        let file = identity(&unfinished)?;
        fs::rename(&unfinished, path).map(|()| file)
    };
    match publish() {
        Ok(file) => Ok((listener, file)),
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

/// Fails if something is there that is not the file of a dead server.
fn check_free(path: &Path) -> io::Result<()> {
    let in_the_way = |text| Err(io::Error::new(ErrorKind::AddrInUse, text));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return in_the_way("a file that is not a socket has this name");
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
        Ok(_) => in_the_way("a server listens on it; stop that one, or choose another path"),
    }
}
