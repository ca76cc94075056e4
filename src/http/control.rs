//! The control socket and its path: whoever removes the one is given it again, as long as the path is ours.
//!
//! A runtime without its socket can neither be asked nor told anything, and a cleaner of old files or a slip of the
//! hand takes it away without the runtime noticing: connections go by the path. So the state directory is watched
//! (inotify, which costs nothing while nothing happens), and a missing socket is made anew. Where there is no watch
//! to be had, the path is looked at every now and then.
//!
//! The path is ours while the state directory is still the one that was started on and the lock in it the one that
//! this runtime holds. A directory that was moved away or replaced belongs to somebody else; so does whatever stands
//! in the socket's place.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use crate::config::SocketSettings;

use super::listen::{SOCKET_NAME, bind_control};
use super::peer::Users;

/// How often the path is looked at where it cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Lets a burst of changes pass: a directory with all its files, for one.
const PAUSE: Duration = Duration::from_millis(100);

/// A file or directory, whatever its name.
type Identity = (u64, u64);

/// The socket's place, and what is known of it.
#[derive(Debug)]
pub(crate) struct ControlPath {
    state_dir: PathBuf,
    settings: SocketSettings,
    dir: Identity,
    lock: Identity,
    socket: Identity,
}

/// What a look at the path found.
#[derive(Debug)]
pub(crate) enum Found {
    /// The socket, as it should be.
    There,
    /// None; a new one was made.
    Made(UnixListener),
    /// The path belongs to somebody else.
    NotOurs(&'static str),
}

impl ControlPath {
    /// Takes the control socket. The caller holds the state directory's lock.
    pub(crate) fn take(
        state_dir: &Path,
        settings: &SocketSettings,
        users: &Users,
    ) -> io::Result<(Self, UnixListener)> {
        let listener = bind_control(state_dir, settings, users)?;
        let path = Self {
            dir: identity(state_dir)?,
            lock: identity(&state_dir.join("lock")).unwrap_or_default(),
            socket: identity(&state_dir.join(SOCKET_NAME))?,
            state_dir: state_dir.to_owned(),
            settings: settings.clone(),
        };
        Ok((path, listener))
    }

    /// Looks at the path, and makes the socket again if it is missing and the path is ours.
    pub(crate) fn heal(&mut self, users: &Users) -> io::Result<Found> {
        match identity(&self.state_dir.join(SOCKET_NAME)) {
            Ok(found) if found == self.socket => return Ok(Found::There),
            Ok(_) => return Ok(Found::NotOurs("something else stands in its place")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if identity(&self.state_dir).ok() != Some(self.dir) {
            return Ok(Found::NotOurs("the state directory was moved away or removed"));
        }
        if identity(&self.state_dir.join("lock")).ok() != Some(self.lock) {
            return Ok(Found::NotOurs(
                "the state directory's lock was removed or belongs to another runtime",
            ));
        }
        let listener = bind_control(&self.state_dir, &self.settings, users)?;
        self.socket = identity(&self.state_dir.join(SOCKET_NAME))?;
        Ok(Found::Made(listener))
    }

    /// Takes the socket away at the runtime's end, if it is still ours.
    pub(crate) fn remove(&self) {
        let path = self.state_dir.join(SOCKET_NAME);
        if identity(&path).ok() == Some(self.socket) {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Never of what a link points to.
fn identity(path: &Path) -> io::Result<Identity> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Says when something in the state directory was removed or replaced.
pub(crate) struct Watch {
    fd: Option<AsyncFd<Arc<OwnedFd>>>,
}

impl Watch {
    pub(crate) fn of(state_dir: &Path) -> Self {
        let opened = open(state_dir).and_then(|fd| crate::worker::unix::watch_readable(Arc::new(fd)));
        if let Err(error) = &opened {
            tracing::info!(%error, "the state directory cannot be watched; its socket is looked at every 10 s");
        }
        Self { fd: opened.ok() }
    }

    /// Returns when it is worth looking.
    pub(crate) async fn changed(&mut self) {
        let Some(fd) = &self.fd else { return tokio::time::sleep(LOOK_EVERY).await };
        match fd.readable().await {
            Ok(mut guard) => {
                // What exactly happened is seen by looking.
                drain(fd.get_ref());
                guard.clear_ready();
                tokio::time::sleep(PAUSE).await;
                drain(fd.get_ref());
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn open(state_dir: &Path) -> io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let gone = inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, state_dir, gone)?;
    Ok(fd)
}

fn drain(fd: &OwnedFd) {
    let mut events = [0; 4096];
    while rustix::io::read(fd.as_fd(), &mut events).is_ok_and(|read| read > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(dir: &Path) -> (ControlPath, UnixListener) {
        std::fs::write(dir.join("lock"), "1\n").unwrap();
        let settings = SocketSettings { mode: 0o600, group: None, role: "operator".to_owned() };
        ControlPath::take(dir, &settings, &Users::read()).unwrap()
    }

    #[test]
    fn a_missing_socket_is_made_again_and_one_that_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut path, _listener) = taken(dir.path());
        assert!(matches!(path.heal(&Users::read()).unwrap(), Found::There));
        std::fs::remove_file(dir.path().join(SOCKET_NAME)).unwrap();
        assert!(matches!(path.heal(&Users::read()).unwrap(), Found::Made(_)));
        assert!(matches!(path.heal(&Users::read()).unwrap(), Found::There));
        path.remove();
        assert!(!dir.path().join(SOCKET_NAME).exists());
    }

    #[test]
    fn what_belongs_to_others_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (mut path, _listener) = taken(dir.path());
        let socket = dir.path().join(SOCKET_NAME);
        std::fs::remove_file(&socket).unwrap();
        std::fs::write(&socket, "a stranger's").unwrap();
        assert!(matches!(path.heal(&Users::read()).unwrap(), Found::NotOurs(_)));
        path.remove();
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "a stranger's");
        std::fs::remove_file(&socket).unwrap();
        // As the runtime does: what is open keeps its number.
        let _held = std::fs::File::open(dir.path().join("lock")).unwrap();
        std::fs::remove_file(dir.path().join("lock")).unwrap();
        std::fs::write(dir.path().join("lock"), "2\n").unwrap();
        let found = path.heal(&Users::read()).unwrap();
        assert!(matches!(found, Found::NotOurs(why) if why.contains("lock")), "{found:?}");
        assert!(!socket.exists());
    }
}
