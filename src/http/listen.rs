//! Taking the addresses: the control socket and the two TCP ones.
//!
//! Deliberately absent: a fallback folder for long socket paths. A Unix address holds 107 bytes, but the folder
//! can be opened first and named as `/proc/self/fd/N`, so the socket always stands in the state directory.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::config::{HttpSettings, SocketSettings};
use crate::runtime::StartError;

use super::peer::Users;

/// The control socket's name in the state directory.
pub const SOCKET_NAME: &str = "regrow.sock";

/// Paths longer than this go through `/proc/self/fd`.
const LONGEST: usize = 100;

/// The TCP addresses, taken before anything is started, so that a refused start has started nothing.
#[derive(Debug, Default)]
pub struct Listeners {
    pub(crate) public: Option<TcpListener>,
    pub(crate) probe: Option<TcpListener>,
    pub(crate) notes: Vec<String>,
}

impl Listeners {
    /// Takes `http.listen` and `http.probe_listen`. A default address that is taken becomes a note.
    ///
    /// # Errors
    /// [`StartError::Listen`] if an address that somebody wrote down cannot be taken.
    pub fn bind(http: &HttpSettings) -> Result<Self, StartError> {
        let mut taken = Self::default();
        if let Some(address) = http.listen {
            match bind_tcp(address) {
                Ok(listener) => taken.public = Some(listener),
                Err(source) if http.listen_explicit => {
                    return Err(StartError::Listen { key: "http.listen", address, source });
                }
                Err(source) => taken.notes.push(format!("http.listen {address} is not served: {source}")),
            }
        }
        if let Some(address) = http.probe_listen {
            let wrap = |source| StartError::Listen { key: "http.probe_listen", address, source };
            taken.probe = Some(bind_tcp(address).map_err(wrap)?);
        }
        Ok(taken)
    }

    /// The address that `http.listen` got (port 0 picks one).
    #[must_use]
    pub fn public_address(&self) -> Option<SocketAddr> {
        self.public.as_ref()?.local_addr().ok()
    }

    /// The address that `http.probe_listen` got.
    #[must_use]
    pub fn probe_address(&self) -> Option<SocketAddr> {
        self.probe.as_ref()?.local_addr().ok()
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Takes the control socket. The state directory's lock is held by the caller, so a socket that is there is
/// the leftover of a dead runtime; anything else under that name is not touched.
pub(crate) fn bind_control(
    state_dir: &Path,
    control: &SocketSettings,
    users: &Users,
) -> io::Result<UnixListener> {
    let path = state_dir.join(SOCKET_NAME);
    remove_stale(&path)?;
    let listener = at_short_path(&path, |short| UnixListener::bind(short))?;
    if let Some(group) = &control.group {
        let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no group is called `{group}`"));
        let gid = users.group_id(group).ok_or_else(unknown)?;
        std::os::unix::fs::chown(&path, None, Some(gid))?;
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(control.mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    if is_taken(path)? { std::fs::remove_file(path) } else { Ok(()) }
}

/// Whether a socket stands there. Anything else that does is an error.
fn is_taken(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => Ok(true),
        Ok(_) => {
            let text = format!("{} is there and is no socket; move it away", path.display());
            Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Looks, before anybody is started, whether something else stands in the control socket's place.
///
/// # Errors
/// [`StartError::System`] says what is there.
pub(crate) fn look_at_control_place(state_dir: &Path) -> Result<(), StartError> {
    let wrap = |source| StartError::System { what: "cannot make the control socket", source };
    match is_taken(&state_dir.join(SOCKET_NAME)) {
        // What cannot be seen is told of by whoever takes the state directory.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(wrap(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Calls `use_path` with a name of `path` that fits into a Unix address.
pub(crate) fn at_short_path<T>(path: &Path, use_path: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= LONGEST {
        return use_path(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return use_path(path);
    };
    let folder = std::fs::File::open(folder)?;
    let short: PathBuf = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    use_path(&short)
}
