//! The thread `regrow-api` and its life.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};

use crate::runtime::{Asker, Home, RuntimeHandle, StartError};

use super::api::{self, Api};
use super::control::{ControlPath, Found, Watch};
use super::listen::{Listeners, SOCKET_NAME};
use super::peer::Users;
use super::public::{self, Public};
use super::serve::{self, Life};

/// How long open connections get to finish when the servers end.
const GRACE: Duration = Duration::from_millis(500);

/// Between tries to make the control socket again where that fails: on a full disk, for one.
const RETRY: Duration = Duration::from_secs(2);

/// The running servers. Dropping it ends them.
pub struct Servers {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    control: Arc<Mutex<ControlPath>>,
    public: Option<std::net::SocketAddr>,
    probe: Option<std::net::SocketAddr>,
}

impl Servers {
    /// Takes every address and serves. The caller holds the state directory's lock.
    ///
    /// # Errors
    /// [`StartError`]: an address cannot be taken, or the socket cannot be made.
    pub fn start(runtime: RuntimeHandle) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&runtime.info().settings().http)?;
        Self::start_on(runtime, listeners)
    }

    /// Serves on TCP addresses that were taken before.
    ///
    /// # Errors
    /// [`StartError`]: the control socket cannot be made, or the thread cannot be started.
    pub fn start_on(runtime: RuntimeHandle, listeners: Listeners) -> Result<Self, StartError> {
        let users = Users::read();
        let info = runtime.info();
        for note in &listeners.notes {
            tracing::warn!("{note}");
            info.note(note.clone());
        }
        let wrap = |source| StartError::System { what: "cannot make the control socket", source };
        let (path, listener) =
            ControlPath::take(&info.state_dir, &info.settings().runtime.control, &users).map_err(wrap)?;
        if path.dir() != info.state_dir {
            let place = path.dir().join(SOCKET_NAME);
            info.note(format!("the control socket is {}: the state directory takes none", place.display()));
        }
        let control = Arc::new(Mutex::new(path));
        let (public, probe) = (listeners.public_address(), listeners.probe_address());
        let (stop, stopped) = watch::channel(false);
        let plane = Plane { runtime, users, listener, control: Arc::clone(&control), listeners, stopped };
        let spawn = std::thread::Builder::new().name("regrow-api".to_owned());
        let wrap = |source| StartError::System { what: "cannot start the API thread", source };
        let thread = spawn.spawn(move || plane.run()).map_err(wrap)?;
        Ok(Self { stop, thread: Some(thread), control, public, probe })
    }

    /// Where `http.listen` is served.
    #[must_use]
    pub fn public_address(&self) -> Option<std::net::SocketAddr> {
        self.public
    }

    /// Where `http.probe_listen` is served.
    #[must_use]
    pub fn probe_address(&self) -> Option<std::net::SocketAddr> {
        self.probe
    }

    /// Ends the servers: no new connections, half a second for the open ones, and the socket is gone.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // A panic over there has been reported by the panic hook.
            let _ = thread.join();
        }
        lock(&self.control).remove();
    }
}

struct Plane {
    runtime: RuntimeHandle,
    users: Users,
    listener: std::os::unix::net::UnixListener,
    control: Arc<Mutex<ControlPath>>,
    listeners: Listeners,
    stopped: watch::Receiver<bool>,
}

impl Plane {
    fn run(self) {
        match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build() {
            Ok(own) => {
                own.block_on(self.serve());
                own.shutdown_timeout(GRACE);
            }
            Err(error) => tracing::error!(%error, "the API has no event loop and does not answer"),
        }
    }

    async fn serve(self) {
        let api = Arc::new(Api::new(self.runtime.clone(), self.stopped.clone()));
        let router = api::router(Arc::clone(&api));
        // Who connects earlier waits: answers know what was before.
        self.runtime.opened().await;
        let mut stopped = self.stopped.clone();
        let (open, mut all_closed) = mpsc::channel(1);
        let control = serve::Control {
            router,
            users: Arc::new(self.users),
            settings: Arc::new(self.runtime.info().settings().runtime.control.clone()),
        };
        let life = Life { stopped: self.stopped.clone(), open: open.clone() };
        let keeper = keep_control(self.listener, self.control, self.runtime.clone(), control, life);
        let keeper = tokio::spawn(keeper);
        let addresses =
            [(self.listeners.public, public::Kind::Public), (self.listeners.probe, public::Kind::Probe)];
        for (listener, kind) in addresses {
            let Some(listener) = listener.and_then(|listener| TcpListener::from_std(listener).ok()) else {
                continue;
            };
            let public = Public::new(Arc::clone(&api), kind, listener.local_addr().ok());
            tokio::spawn(serve::public(
                listener,
                public,
                Life { stopped: self.stopped.clone(), open: open.clone() },
            ));
        }
        // An error means that the owner is gone, which is the same.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        keeper.abort();
        drop(open);
        // Either the last connection is gone, or its time is over.
        let _ = tokio::time::timeout(GRACE, all_closed.recv()).await;
    }
}

/// Serves the control socket, and makes it again if somebody has removed it.
async fn keep_control(
    mut listener: std::os::unix::net::UnixListener,
    path: Arc<Mutex<ControlPath>>,
    runtime: RuntimeHandle,
    control: serve::Control,
    life: Life,
) {
    let mut watch = Watch::of(lock(&path).dir());
    let users = Arc::clone(&control.users);
    loop {
        let Ok(current) = UnixListener::from_std(listener) else { return };
        let serving = tokio::spawn(serve::control(current, control.clone(), life.clone()));
        listener = missing(&mut watch, &path, &users, &runtime).await;
        // Connections that are open go on: only nobody comes through a socket without a path any more.
        serving.abort();
        tracing::warn!("the control socket had been removed and was made again");
    }
}

fn lock(path: &Mutex<ControlPath>) -> std::sync::MutexGuard<'_, ControlPath> {
    path.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone(why: &str) -> String {
    format!("the control socket is gone and is not made again: {why}")
}

/// Returns the new socket once the old one was removed.
async fn missing(
    watch: &mut Watch,
    path: &Mutex<ControlPath>,
    users: &Users,
    runtime: &RuntimeHandle,
) -> std::os::unix::net::UnixListener {
    let mut told = None;
    loop {
        watch.changed().await;
        let (home, found) = {
            let home = runtime.info().heal_home();
            let ours = match &home {
                Ok(Home::Ours | Home::Remade) => Ok(()),
                Ok(Home::NotOurs(why)) => Err(*why),
                Ok(Home::Taken(_)) => Err("the state directory belongs to another runtime"),
                Err(_) => Err("the state directory cannot be made again"),
            };
            let found = lock(path).heal(users, ours);
            (home, found)
        };
        match home {
            Ok(Home::Ours | Home::Remade | Home::NotOurs(_)) => {}
            // It minds the same workers, and is the one that people reach.
            Ok(Home::Taken(pid)) => {
                let by = format!("nobody: the runtime with pid {pid} has the state directory by now");
                runtime.shutdown(Asker(by)).await;
            }
            Err(error) => tracing::warn!(%error, "the state directory is gone and cannot be made again"),
        }
        if let (Ok(Found::There | Found::Made(_)), Some(why)) = (&found, told) {
            runtime.info().forget_note(&gone(why));
            told = None;
        }
        match found {
            Ok(Found::There) => {}
            Ok(Found::Made(listener)) => {
                // It may stand in another directory of the same name.
                *watch = Watch::of(lock(path).dir());
                return listener;
            }
            Ok(Found::NotOurs(why)) if told == Some(why) => watch.look_again(),
            Ok(Found::NotOurs(why)) => {
                // One reason is told, the newest.
                if let Some(before) = told.replace(why) {
                    runtime.info().forget_note(&gone(before));
                }
                watch.look_again();
                tracing::warn!("{}", gone(why));
                runtime.info().note(gone(why));
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket is gone and cannot be made again");
                tokio::time::sleep(RETRY).await;
                watch.look_again();
            }
        }
    }
}
