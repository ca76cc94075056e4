//! Accepting connections, with a limit on everything a client can waste.

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
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
use tokio::sync::{mpsc, watch};

use crate::config::SocketSettings;
use crate::worker::process::{Spare, is_exhaustion};

use super::crowd::{Crowd, Place, Watched};
use super::narrow::{Narrow, Stream};
use super::peer::{Peer, Users};
use super::problem::Problem;
use super::public::Public;
use super::visitor;

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

    /// A place for one more. `None`: the servers end.
    async fn place(&self, life: &mut Life) -> Option<Place> {
        tokio::select! {
            place = self.crowd.place() => place,
            () = life.over() => None,
        }
    }

    /// Lets a connection in, beside all others. `None`: the servers end.
    async fn enter<T, S>(&mut self, stream: T, service: S, life: &mut Life) -> Option<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send,
    {
        self.told = false;
        let place = self.place(life).await?;
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
        let place = self.place(life).await?;
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
    let stream = Watched::new(stream, Arc::clone(&place));
    let asking = Arc::clone(&place);
    let service = service_fn(move |request| {
        asking.asked();
        let (answer, place) = (service.call(request), Arc::clone(&asking));
        async move { answer.await.map(|answer| answer.map(|body| place.answers(body))) }
    });
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
        () = place.must_go() => {}
        () = life.over() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                _ = serving => {}
                () = place.must_go() => {}
            }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, timeout};

    use super::super::body::Stream as Fed;
    use super::super::crowd::CONNECTIONS;
    use super::*;

    /// Long beside every limit, and no time at all on a clock that stands still.
    const EVER: Duration = Duration::from_secs(3600);

    const SMALL: &str = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    const LARGE: &str = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";

    struct Clients {
        door: Door,
        life: Life,
        _stop: watch::Sender<bool>,
        _open: mpsc::Receiver<()>,
    }

    impl Clients {
        fn new() -> Self {
            let ((stop, stopped), (open, opened)) = (watch::channel(false), mpsc::channel(1));
            let life = Life { stopped, open };
            Self { door: Door::new("a test"), life, _stop: stop, _open: opened }
        }

        /// A client that has asked this.
        async fn ask(&mut self, text: &str) -> DuplexStream {
            let (mut client, server) = duplex(1024);
            let service = service_fn(|request: Request<Incoming>| async move {
                let size = if request.uri().path() == "/livez" { 2 } else { 1 << 20 };
                Ok::<_, Infallible>(Response::new(Body::from(vec![b'x'; size])))
            });
            let came = timeout(EVER, self.door.enter(server, service, &mut self.life)).await;
            assert_eq!(came, Ok(Some(())), "nobody made room");
            client.write_all(text.as_bytes()).await.unwrap();
            client
        }

        /// Lets in as many as there is room for, who ask this, and then one who gets its answer at once.
        async fn one_more_than(&mut self, text: &str, answered: bool) {
            let began = Instant::now();
            let mut crowd = Vec::new();
            for _ in 0..CONNECTIONS {
                let mut client = self.ask(text).await;
                if answered {
                    first_line(&mut client).await;
                }
                crowd.push(client);
            }
            // Everybody gets as far as it can.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut late = self.ask(SMALL).await;
            assert_eq!(first_line(&mut late).await, "HTTP/1.1 200 OK");
            assert!(began.elapsed() < Duration::from_secs(1), "only after {:?}", began.elapsed());
        }
    }

    async fn first_line(client: &mut DuplexStream) -> String {
        let mut text = vec![0; 15];
        timeout(EVER, client.read_exact(&mut text)).await.unwrap().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_have_their_answer_make_room_for_a_new_one() {
        Clients::new().one_more_than(SMALL, true).await;
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_do_not_take_their_answer_make_room_for_a_new_one() {
        Clients::new().one_more_than(LARGE, false).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_be_taken_in_time_however_slowly_it_moves() {
        let mut clients = Clients::new();
        let mut client = clients.ask(LARGE).await;
        let began = Instant::now();
        let read = async {
            let mut byte = [0; 16];
            while client.read(&mut byte).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        };
        timeout(EVER, read).await.unwrap();
        // 30 s, 16 s for its size, and what was on its way then.
        assert!(began.elapsed() >= Duration::from_secs(46), "{:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(600), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_goes_on_for_as_long_as_it_is_taken() {
        let mut clients = Clients::new();
        let (feed, fed) = mpsc::channel(1);
        let fed = std::sync::Mutex::new(Some(fed));
        let service = service_fn(move |_: Request<Incoming>| {
            let fed = fed.lock().unwrap().take().unwrap();
            async move { Ok::<_, Infallible>(Response::new(Body::new(Fed(fed)))) }
        });
        let (mut client, server) = duplex(1024);
        clients.door.enter(server, service, &mut clients.life).await.unwrap();
        client.write_all(SMALL.as_bytes()).await.unwrap();
        let chunk = axum::body::Bytes::from(vec![b'y'; 4096]);
        let mut taken = vec![0; 4096];
        for _ in 0..20 {
            feed.send(chunk.clone()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
            timeout(EVER, client.read_exact(&mut taken)).await.unwrap().unwrap();
        }
        // And ends when nothing more is taken.
        let told = async { while feed.send(chunk.clone()).await.is_ok() {} };
        timeout(EVER, told).await.unwrap();
    }
}
