//! The control socket and its path: whoever removes the one is given it again, as long as the path is ours.
//!
//! A runtime without its socket can neither be asked nor told anything, and a cleaner of old files or a slip of the
//! hand takes it away without the runtime noticing: connections go by the path. So the state directory is watched
//! (inotify, which costs nothing while nothing happens), and a missing socket is made anew. Where there is no watch
//! to be had, the path is looked at every now and then.
//!
//! The path is ours while the state directory is (`runtime::state_dir` knows). Whatever else stands in the socket's
//! place belongs to somebody else. Where the state directory takes nothing, the socket is in its shelter.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use crate::config::SocketSettings;
use crate::worker::process::shelter;

use super::listen::{SOCKET_NAME, bind_control};
use super::peer::Users;

/// How often the path is looked at where it cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Lets a burst of changes pass: a directory with all its files, for one.
const PAUSE: Duration = Duration::from_millis(100);

/// After something was removed, the path is looked at once more after this long without news.
const SOON: Duration = Duration::from_secs(1);

/// So many earlier sockets are known again.
const FORMER: usize = 16;

/// A file or directory, whatever its name.
type Identity = (u64, u64);

/// The socket's place, and what is known of it.
#[derive(Debug)]
pub(crate) struct ControlPath {
    dir: PathBuf,
    settings: SocketSettings,
    socket: Identity,
    /// Those that it had before: nobody answers there any more, and they come back with a directory that is put back.
    former: Vec<Identity>,
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
        let mut dir = state_dir.to_owned();
        let listener = match bind_control(&dir, settings, users) {
            Err(error) if shelter::takes_nothing(&error) => {
                let shared = settings.group.is_some();
                dir = shelter::seek(&std::fs::canonicalize(state_dir)?, shared)?;
                bind_control(&dir, settings, users)?
            }
            other => other?,
        };
        let socket = identity(&dir.join(SOCKET_NAME))?;
        Ok((Self { socket, dir, settings: settings.clone(), former: Vec::new() }, listener))
    }

    /// The folder that it is in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Looks at the path, and makes the socket again if it is missing and the state directory is `ours`; else that is
    /// why not.
    pub(crate) fn heal(&mut self, users: &Users, ours: Result<(), &'static str>) -> io::Result<Found> {
        let socket = self.dir.join(SOCKET_NAME);
        match identity(&socket) {
            Ok(found) if found == self.socket => return Ok(Found::There),
            Ok(found) if ours.is_ok() && self.former.contains(&found) && is_socket(&socket) => {
                std::fs::remove_file(&socket)?;
            }
            Ok(_) => return Ok(Found::NotOurs("something else stands in its place")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if let Err(why) = ours {
            return Ok(Found::NotOurs(why));
        }
        let listener = bind_control(&self.dir, &self.settings, users)?;
        let former = std::mem::replace(&mut self.socket, identity(&socket)?);
        self.former.retain(|one| *one != self.socket);
        self.former.push(former);
        self.former.drain(..self.former.len().saturating_sub(FORMER));
        Ok(Found::Made(listener))
    }

    /// Takes the socket away at the runtime's end, if it is still ours.
    pub(crate) fn remove(&self) {
        let path = self.dir.join(SOCKET_NAME);
        if identity(&path).ok() == Some(self.socket) {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// Never of what a link points to.
fn identity(path: &Path) -> io::Result<Identity> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

/// Says when something in the state directory was removed or replaced.
pub(crate) struct Watch {
    fd: Option<AsyncFd<Arc<OwnedFd>>>,
    /// Whether to look once more when nothing further happens: who removes a directory empties it first, and that it
    /// is gone itself is not told.
    again: bool,
}

impl Watch {
    pub(crate) fn of(state_dir: &Path) -> Self {
        let opened = open(state_dir).and_then(|fd| crate::worker::unix::watch_readable(Arc::new(fd)));
        if let Err(error) = &opened {
            tracing::info!(%error, "the state directory cannot be watched; its socket is looked at every 10 s");
        }
        Self { fd: opened.ok(), again: false }
    }

    /// Something is wrong: the next look comes soon, whatever happens.
    pub(crate) fn look_again(&mut self) {
        self.again = true;
    }

    /// Returns when it is worth looking.
    pub(crate) async fn changed(&mut self) {
        let Some(fd) = &self.fd else { return tokio::time::sleep(LOOK_EVERY).await };
        let readable = if std::mem::take(&mut self.again) {
            match tokio::time::timeout(SOON, fd.readable()).await {
                Ok(readable) => readable,
                Err(_) => return,
            }
        } else {
            fd.readable().await
        };
        self.again = true;
        match readable {
            Ok(mut guard) => {
                // What exactly happened is seen by looking; at once where the path is free for others.
                let moved = drain(fd.get_ref());
                guard.clear_ready();
                if !moved {
                    tokio::time::sleep(PAUSE).await;
                    drain(fd.get_ref());
                }
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
        | inotify::WatchFlags::MOVE_SELF
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, state_dir, gone)?;
    // A folder above it that is renamed takes it along, and the path is free for others.
    for above in
        std::fs::canonicalize(state_dir)?.ancestors().skip(1).filter(|above| above.parent().is_some())
    {
        let moved = inotify::WatchFlags::MOVE_SELF | inotify::WatchFlags::ONLYDIR;
        if let Err(error) = inotify::add_watch(&fd, above, moved) {
            tracing::debug!(%error, dir = %above.display(), "it is not seen when this folder is renamed");
        }
    }
    Ok(fd)
}

/// Reads all that there is; whether the directory itself was moved.
fn drain(fd: &OwnedFd) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(fd, &mut buffer);
    let mut moved = false;
    while let Ok(event) = events.next() {
        moved |= event.events().contains(inotify::ReadFlags::MOVE_SELF);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(dir: &Path) -> (ControlPath, UnixListener) {
        let settings = SocketSettings { mode: 0o600, group: None, role: "operator".to_owned() };
        ControlPath::take(dir, &settings, &Users::read()).unwrap()
    }

    #[test]
    fn a_missing_socket_is_made_again_and_one_that_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut path, _listener) = taken(dir.path());
        assert!(matches!(path.heal(&Users::read(), Ok(())).unwrap(), Found::There));
        std::fs::remove_file(dir.path().join(SOCKET_NAME)).unwrap();
        assert!(matches!(path.heal(&Users::read(), Ok(())).unwrap(), Found::Made(_)));
        assert!(matches!(path.heal(&Users::read(), Ok(())).unwrap(), Found::There));
        // As where a directory that was moved away is put back.
        let (socket, aside) = (dir.path().join(SOCKET_NAME), dir.path().join("aside"));
        std::fs::rename(&socket, &aside).unwrap();
        let Found::Made(_newer) = path.heal(&Users::read(), Ok(())).unwrap() else { panic!("none was made") };
        std::fs::rename(&aside, &socket).unwrap();
        let Found::Made(_newest) = path.heal(&Users::read(), Ok(())).unwrap() else {
            panic!("none was made")
        };
        assert!(matches!(path.heal(&Users::read(), Ok(())).unwrap(), Found::There));
        path.remove();
        assert!(!socket.exists());
    }

    #[tokio::test]
    async fn a_folder_above_that_is_renamed_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("project/state");
        std::fs::create_dir_all(&state).unwrap();
        let mut watch = Watch::of(&state);
        std::fs::rename(dir.path().join("project"), dir.path().join("renamed")).unwrap();
        tokio::time::timeout(Duration::from_secs(60), watch.changed()).await.unwrap();
    }

    #[test]
    fn what_belongs_to_others_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (mut path, _listener) = taken(dir.path());
        let socket = dir.path().join(SOCKET_NAME);
        std::fs::remove_file(&socket).unwrap();
        std::fs::write(&socket, "a stranger's").unwrap();
        assert!(matches!(path.heal(&Users::read(), Ok(())).unwrap(), Found::NotOurs(_)));
        path.remove();
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "a stranger's");
        std::fs::remove_file(&socket).unwrap();
        let found = path.heal(&Users::read(), Err("the lock is another's")).unwrap();
        assert!(matches!(found, Found::NotOurs(why) if why.contains("lock")), "{found:?}");
        assert!(!socket.exists());
    }
}
