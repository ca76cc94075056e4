//! Accepting connections, with a limit on everything a client can waste.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::config::SocketSettings;
use crate::worker::process::{Spare, is_exhaustion};

use super::narrow::{Narrow, Stream};
use super::peer::{Peer, Users};
use super::problem::Problem;
use super::public::Public;
use super::visitor;

/// Open connections of one listener. A client that stalls is gone after [`HEADER_TIMEOUT`], and at once if it was
/// silent longest when somebody new comes.
const CONNECTIONS: usize = 256;

/// A request's header must be complete after this, and an idle connection ends.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest request head. Paths, a key and a few headers fit many times.
const HEAD_BYTES: usize = 16 * 1024;

/// Pause after a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long one connection may take while there are no descriptors and others wait for the only one that is left.
const NARROW: Duration = Duration::from_secs(2);

/// The same for its request: whoever has none is sent away.
const NARROW_HEADER: Duration = Duration::from_millis(500);

/// What the control socket needs for each connection.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) router: Router,
    pub(crate) users: Arc<Users>,
    pub(crate) settings: Arc<SocketSettings>,
}

/// When a connection must end, and a token that says that it is open.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) open: mpsc::Sender<()>,
}

/// Serves the control socket until told to stop.
pub(crate) async fn control(listener: UnixListener, control: Control, mut life: Life) {
    let mut door = Door::new("the control socket");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = life.over() => return,
        };
        let came = match accepted {
            Ok((stream, _)) => {
                let service = control.for_peer(&stream);
                door.enter(stream, service, &mut life).await
            }
            Err(error) => {
                let next = async { listener.accept().await.map(|(stream, _)| stream) };
                door.narrow(&error, &listener, next, |stream| control.for_peer(stream), &mut life).await
            }
        };
        if came.is_none() {
            return;
        }
    }
}

/// Serves a TCP address until told to stop.
pub(crate) async fn public(listener: TcpListener, public: Public, mut life: Life) {
    let mut door = Door::new("a TCP address");
    let public = Arc::new(public);
    let service = |_: &TcpStream| {
        let public = Arc::clone(&public);
        service_fn(move |request: Request<Incoming>| {
            let public = Arc::clone(&public);
            async move { Ok::<_, Infallible>(public.answer(&request).await) }
        })
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = life.over() => return,
        };
        let came = match accepted {
            Ok((stream, _)) => {
                let service = service(&stream);
                door.enter(stream, service, &mut life).await
            }
            Err(error) => {
                let next = async { listener.accept().await.map(|(stream, _)| stream) };
                door.narrow(&error, &listener, next, service, &mut life).await
            }
        };
        if came.is_none() {
            return;
        }
    }
}

/// Where connections come in.
struct Door {
    what: &'static str,
    crowd: Arc<Crowd>,
    spare: Spare,
    /// That nobody gets in as usual was said.
    told: bool,
}

impl Door {
    fn new(what: &'static str) -> Self {
        Self { what, crowd: Arc::new(Crowd::new()), spare: Spare::new(), told: false }
    }

    /// Lets a connection in, beside all others. `None`: the servers end.
    async fn enter<T, S>(&mut self, stream: T, service: S, life: &mut Life) -> Option<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send,
    {
        self.told = false;
        let place = self.crowd.place(life).await?;
        tokio::spawn(connection(stream, service, place, life.clone(), Pace::Usual));
        Some(())
    }

    /// Nobody can be let in as usual. Out of descriptors, those who wait come in one by one through the spare one:
    /// whoever wants to know what is wrong gets an answer, and a crowd waits outside without costing anything.
    /// `None`: the servers end.
    async fn narrow<T, S>(
        &mut self,
        error: &std::io::Error,
        listener: &impl AsFd,
        next: impl Future<Output = std::io::Result<T>>,
        service: impl FnOnce(&T) -> S,
        life: &mut Life,
    ) -> Option<()>
    where
        T: Stream,
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(%error, "cannot accept on {} as usual; said once until it works again", self.what);
        }
        let place = self.crowd.place(life).await?;
        if is_exhaustion(error)
            // The error comes also where nobody waits. The spare one is given up for somebody who is there, and for no
            // longer than it takes to let him in: others are short of it, too.
            && somebody_waits(listener)
            && let Some(lent) = self.spare.lend()
            && let Some(stream) = at_once(next).await
        {
            let service = service(&stream);
            let stream = Narrow::new(stream, lent);
            let served = connection(stream, service, place, life.clone(), Pace::Narrow);
            // A slow one is cut off: somebody else may wait.
            let _ = tokio::time::timeout(NARROW, served).await;
            return Some(());
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
        Some(())
    }
}

/// Whether a connection waits to be accepted.
fn somebody_waits(listener: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// What can be had without waiting.
async fn at_once<T>(next: impl Future<Output = std::io::Result<T>>) -> Option<T> {
    tokio::select! {
        biased;
        next = next => next.ok(),
        () = std::future::ready(()) => None,
    }
}

/// The open connections of one listener.
struct Crowd {
    places: Arc<Semaphore>,
    /// Those that have not asked anything yet, the oldest first.
    silent: Mutex<VecDeque<Arc<Notify>>>,
}

/// The right to be one of them.
struct Place {
    crowd: Arc<Crowd>,
    /// Told when somebody else needs the place.
    leave: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Crowd {
    fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(CONNECTIONS)), silent: Mutex::default() }
    }

    /// A place for a new connection. Where all are taken, whoever has been silent longest leaves; where all ask
    /// something, it waits. `None`: the servers end.
    async fn place(self: &Arc<Self>, life: &mut Life) -> Option<Place> {
        if self.places.available_permits() == 0
            && let Some(oldest) = self.silent().pop_front()
        {
            oldest.notify_one();
        }
        let permit = tokio::select! {
            place = Arc::clone(&self.places).acquire_owned() => place.ok()?,
            () = life.over() => return None,
        };
        let leave = Arc::new(Notify::new());
        self.silent().push_back(Arc::clone(&leave));
        Some(Place { crowd: Arc::clone(self), leave, _permit: permit })
    }

    fn silent(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It has asked something, and stays.
    fn asked(&self) {
        self.crowd.silent().retain(|one| !Arc::ptr_eq(one, &self.leave));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.asked();
    }
}

/// A service that notes the first request.
struct Noted<S> {
    service: S,
    place: Arc<Place>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Noted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.place.asked();
        self.service.call(request)
    }
}

/// How much of our time a connection gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// What a client can sensibly need.
    Usual,
    /// One answer, if it asks at once: others wait for the same descriptor.
    Narrow,
}

async fn connection<T, S>(stream: T, service: S, place: Place, mut life: Life, pace: Pace)
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    let place = Arc::new(place);
    let service = Noted { service, place: Arc::clone(&place) };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(if pace == Pace::Usual { HEADER_TIMEOUT } else { NARROW_HEADER })
        .max_buf_size(HEAD_BYTES)
        .keep_alive(pace == Pace::Usual)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    // A connection that ends badly is the client's affair.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = place.leave.notified() => {}
        () = life.over() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
    drop(life.open);
}

impl Life {
    /// Returns once the servers end.
    async fn over(&mut self) {
        // An error means that the owner is gone, which is the same.
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }
}

impl Control {
    /// The service of one connection: the router for a peer that is admitted, a refusal for any other.
    fn for_peer(&self, stream: &UnixStream) -> ForPeer {
        ForPeer { peer: self.admit(stream), router: TowerToHyperService::new(self.router.clone()) }
    }

    fn admit(&self, stream: &UnixStream) -> Result<Peer, Problem> {
        let refused = |detail: String| Problem::forbidden("not_permitted", detail);
        let credentials =
            stream.peer_cred().map_err(|error| refused(format!("cannot tell who asks: {error}")))?;
        let own = rustix::process::geteuid().as_raw();
        let (uid, gid) = (credentials.uid(), credentials.gid());
        self.users.admit(uid, gid, own, &self.settings).ok_or_else(|| {
            refused(format!(
                "uid {uid} is neither the runtime's user nor root nor a member of runtime.control.group"
            ))
        })
    }
}

/// Every request carries who asks.
struct ForPeer {
    peer: Result<Peer, Problem>,
    router: TowerToHyperService<Router>,
}

impl Service<Request<Incoming>> for ForPeer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let peer = self.peer.as_ref().map_err(Problem::clone);
        match peer.and_then(|peer| visitor::check(&request, None).map(|()| peer)) {
            Ok(peer) => {
                request.extensions_mut().insert(peer.clone());
                Box::pin(self.router.call(request))
            }
            Err(problem) => {
                let refusal = problem.into_response();
                Box::pin(async move { Ok(refusal) })
            }
        }
    }
}
