//! Endpoints that are slow, endless, elsewhere or broken, against real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::checks::{Grpc, Http, Tcp};
use super::patience::within;
use super::{Found, Look, Patient, Probe, ProbeActor, ProbeArguments, Rhythm, Times};
use crate::config::{CheckSettings, Sources, load};
use crate::health::Grade;
use crate::id::{Incarnation, InstanceId};

/// Far beyond what any of these takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn patient(check: &str) -> (Patient, CheckSettings) {
    let text = format!("[worker.web]\ncommand = [\"x\"]\nprobe.p = {{ {check} }}\n");
    let worker = Arc::clone(&load(&Sources::text(text)).unwrap().settings.workers[0]);
    let patient = Patient {
        instance: InstanceId::single(worker.name.clone()),
        incarnation: Incarnation(1),
        state_dir: "/nonexistent".into(),
        pid: Arc::new(AtomicU32::new(0)),
        apart: Arc::default(),
        worker: Arc::clone(&worker),
    };
    (patient, worker.probes[0].check.clone())
}

async fn look(probe: &dyn Probe, patient: &Patient) -> Found {
    tokio::time::timeout(PATIENCE, probe.look(patient)).await.expect("a look ends")
}

fn http(url: &str, more: &str) -> (Patient, Http) {
    let (patient, check) = patient(&format!("http = {{ url = \"{url}\", {more} }}"));
    let CheckSettings::Http(check) = check else { unreachable!("it is one") };
    (patient, Http { check })
}

/// Serves every connection by this.
async fn server<F, S>(serve: S) -> (String, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream) -> F + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let served = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            served.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream));
        }
    });
    (address.to_string(), count)
}

async fn say(mut stream: TcpStream, text: String) {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(text.as_bytes()).await;
}

#[tokio::test]
async fn an_answer_passes_by_its_status_and_its_body() {
    let (address, _) =
        server(|stream| say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nall ok\n".to_owned())).await;
    let url = format!("http://{address}/health");
    for (more, grade) in [
        ("", Grade::Pass),
        ("expect_body = \"ok\"", Grade::Pass),
        ("expect_body = \"fine\"", Grade::Fail),
        ("expect_status = \"204,300-399\"", Grade::Fail),
    ] {
        let (patient, probe) = http(&url, more);
        let found = look(&probe, &patient).await;
        assert_eq!(found.grade, grade, "{more}: {found:?}");
    }
}

#[tokio::test]
async fn e1_one_byte_now_and_then_is_no_answer() {
    let (address, _) = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if stream.write_all(b"x").await.is_err() {
                return;
            }
        }
    })
    .await;
    let (patient, probe) = http(&format!("http://{address}/"), "");
    let found = within(Duration::from_millis(200), probe.look(&patient)).await;
    assert!(found.is_none_or(|found| found.grade == Grade::Fail));
}

#[tokio::test]
async fn e2_a_redirect_is_an_answer_and_is_not_followed() {
    let (elsewhere, visits) = server(|stream| say(stream, "HTTP/1.1 200 OK\r\n\r\n".to_owned())).await;
    let location =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let (address, _) = server(move |stream| say(stream, location.clone())).await;
    let (patient, probe) = http(&format!("http://{address}/"), "");
    assert_eq!(look(&probe, &patient).await.message, "HTTP 302 Found");
    let (patient, probe) = http(&format!("http://{address}/"), "expect_status = \"200\"");
    assert_eq!(look(&probe, &patient).await.grade, Grade::Fail);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn e4_an_endless_body_is_read_up_to_a_bound() {
    let (address, _) = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
        let junk = [b'.'; 4096];
        while stream.write_all(&junk).await.is_ok() {}
    })
    .await;
    let (patient, probe) = http(&format!("http://{address}/"), "expect_body = \"ok\"");
    let found = look(&probe, &patient).await;
    assert_eq!(found.grade, Grade::Fail, "{found:?}");
    let (patient, probe) = http(&format!("http://{address}/"), "");
    assert_eq!(look(&probe, &patient).await.grade, Grade::Pass, "the status is enough");
}

#[tokio::test]
async fn e6_a_name_that_cannot_be_resolved_says_nothing_of_the_worker() {
    let (patient, probe) = http("http://no-such-host.invalid/", "");
    assert_eq!(look(&probe, &patient).await.grade, Grade::Error);
}

#[tokio::test]
async fn e10_garbage_is_a_failure_and_no_panic() {
    for garbage in [
        "SSH-2.0-x\r\n",
        "HTTP/1.1 99999 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "",
        "\0\0\0",
    ] {
        let (address, _) = server(move |stream| say(stream, garbage.to_owned())).await;
        let (patient, probe) = http(&format!("http://{address}/"), "expect_body = \"ok\"");
        let found = look(&probe, &patient).await;
        assert_eq!(found.grade, Grade::Fail, "{garbage:?}: {found:?}");
    }
}

#[tokio::test]
async fn nobody_listens_is_a_failure_and_somebody_a_pass() {
    let (address, _) = server(|_| async {}).await;
    let (patient, _) = patient(&format!("tcp = \"{address}\""));
    assert_eq!(look(&Tcp { address }, &patient).await.grade, Grade::Pass);
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    assert_eq!(look(&Tcp { address: closed.clone() }, &patient).await.grade, Grade::Fail);
    let unix = Tcp { address: "unix:/there/is/no/such/socket".to_owned() };
    assert_eq!(look(&unix, &patient).await.grade, Grade::Fail);
    let grpc = Grpc { host: closed, service: String::new() };
    assert_eq!(look(&grpc, &patient).await.grade, Grade::Fail);
}

/// A gRPC server of one answer.
async fn health_server(answer: &'static [u8], status: &'static str) -> String {
    use http_body_util::BodyExt;
    use hyper::body::{Bytes, Frame};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let (address, _) = server(move |stream| async move {
        let service =
            hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let asked = request.into_body().collect().await.map(|body| body.to_bytes());
                assert!(asked.is_ok_and(|asked| asked.len() >= 5));
                let mut trailers = hyper::HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                let frames = [Frame::data(Bytes::from_static(answer)), Frame::trailers(trailers)];
                let body = Frames(frames.into_iter().collect());
                hyper::Response::builder().header("content-type", "application/grpc").body(body)
            });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await;
    address
}

/// A stream of what is there.
struct Frames(std::collections::VecDeque<hyper::body::Frame<hyper::body::Bytes>>);

impl hyper::body::Body for Frames {
    type Data = hyper::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[tokio::test]
async fn grpc_health_is_asked_and_understood() {
    let (patient, _) = patient("tcp = \"x:1\"");
    for (answer, status, grade) in [
        (&[0, 0, 0, 0, 2, 8, 1][..], "0", Grade::Pass),
        (&[0, 0, 0, 0, 2, 8, 2][..], "0", Grade::Fail),
        (&[][..], "12", Grade::Error),
        (&[][..], "5", Grade::Fail),
    ] {
        let host = health_server(answer, status).await;
        let found = look(&Grpc { host, service: "orders.v1".to_owned() }, &patient).await;
        assert_eq!(found.grade, grade, "{found:?}");
    }
}

#[test]
fn messages_are_one_short_line() {
    let found = Found::fail(format!("a\u{7}b\nsecond{}", "x".repeat(5000)));
    assert_eq!(found.message, "a\u{fffd}b");
    assert!(Found::fail("x".repeat(5000)).message.len() <= 300);
    assert_eq!(Found::pass(" \n").message, "pass");
}

/// An address whose queue of connections is full: the next one is never answered.
fn full() -> (String, Vec<std::net::TcpStream>, std::net::TcpListener) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue is never full");
    }
    (address.to_string(), waiting, listener)
}

#[tokio::test]
async fn e5_a_connection_that_never_comes_about_ends_with_its_deadline_and_holds_up_nobody() {
    let (address, _waiting, _listens) = full();
    let (hangs, slow) = http(&format!("http://{address}/"), "");
    let late = tokio::spawn(async move { within(Duration::from_secs(1), slow.look(&hangs)).await });
    let (url, _) = server(|stream| say(stream, "HTTP/1.1 200 OK\r\n\r\n".to_owned())).await;
    let (patient, quick) = http(&format!("http://{url}/"), "");
    assert_eq!(look(&quick, &patient).await.grade, Grade::Pass);
    assert_eq!(tokio::time::timeout(PATIENCE, late).await.unwrap().unwrap(), None);
}

/// Looks that take longer than the pause between them.
struct Slow {
    now: AtomicUsize,
    most: AtomicUsize,
    looks: tokio::sync::Semaphore,
}

impl Probe for Slow {
    fn look<'a>(&'a self, _: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            self.looks.add_permits(1);
            Found::pass("at last")
        })
    }
}

#[tokio::test(start_paused = true)]
async fn e9_a_look_that_is_slower_than_its_period_never_meets_the_next() {
    let slow = Arc::new(Slow {
        now: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        looks: tokio::sync::Semaphore::new(0),
    });
    let began = tokio::time::Instant::now();
    let short = Duration::from_millis(10);
    let arguments = ProbeArguments {
        number: 1,
        rhythm: Rhythm::new(
            Times { initial_delay: short, period: short, retry_period: short, timeout: PATIENCE },
            0.0,
        ),
        probe: Arc::clone(&slow) as Arc<dyn Probe>,
        patient: patient("process = {}").0,
        now: Arc::new(move || began.elapsed()),
        report: Arc::new(|seen| assert_eq!(seen.grade, Grade::Pass)),
    };
    let (probe, _) = ractor::Actor::spawn(None, ProbeActor, arguments).await.unwrap();
    let looked = tokio::time::timeout(Duration::from_secs(3600), slow.looks.acquire_many(5)).await;
    assert!(looked.is_ok() && slow.most.load(Ordering::SeqCst) == 1);
    probe.kill();
}
