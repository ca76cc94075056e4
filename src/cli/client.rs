//! A small HTTP client for the control socket.
//!
//! One connection per request: the answers are local, and a connection costs less than keeping one healthy.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::http::dto::Accepted;
use crate::http::{SOCKET_NAME, at_short_path};
use crate::runtime::Target;
use crate::worker::process::shelter;

use super::failure::Failure;

/// An answer takes milliseconds; a runtime that is this late is stuck.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The runtime behind one socket.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// What the server says of an error.
#[derive(Deserialize)]
struct ProblemBody {
    code: String,
    detail: String,
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether anybody takes a connection there.
    pub(crate) fn answers(&self) -> bool {
        connect(&self.socket).is_ok()
    }

    /// Asks for JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.get_within(path, TIMEOUT).await
    }

    /// Asks for JSON that may take longer.
    pub(crate) async fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Duration,
    ) -> Result<T, Failure> {
        let ask = async {
            let response = self.send(Method::GET, path, "application/json", None).await?;
            self.body(response).await
        };
        let bytes = tokio::time::timeout(limit, ask).await.map_err(|_| self.too_late(limit))??;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::Failed(format!(
                "the runtime's answer to {path} was not understood: {error}. Is it another version?"
            ))
        })
    }

    /// Asks for an action.
    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Accepted, Failure> {
        self.ask_for(Method::POST, path, body, TIMEOUT).await
    }

    /// Asks for something with a body, or by another method, that may take longer.
    pub(crate) async fn ask_for<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<T, Failure> {
        let ask = async {
            let response = self.send(method, path, "application/json", body).await?;
            self.body(response).await
        };
        let bytes = tokio::time::timeout(limit, ask).await.map_err(|_| self.too_late(limit))??;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::Failed(format!("the runtime's answer to {path} was not understood: {error}"))
        })
    }

    /// Opens a stream of events.
    pub(crate) async fn stream(&self, path: &str) -> Result<EventStream, Failure> {
        let open = self.send(Method::GET, path, "text/event-stream", None);
        let response = tokio::time::timeout(TIMEOUT, open).await.map_err(|_| self.too_late(TIMEOUT))??;
        if response.status() == StatusCode::OK {
            return Ok(EventStream { body: response.into_body(), pending: Vec::new() });
        }
        let status = response.status();
        self.body(response).await?;
        Err(Failure::Failed(format!("the runtime answered {status} instead of a stream")))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = connect(&self.socket).map_err(|error| self.unreachable(&error))?;
        stream.set_nonblocking(true).map_err(|error| self.unreachable(&error))?;
        let stream = UnixStream::from_std(stream).map_err(|error| self.unreachable(&error))?;
        let broke = |error: hyper::Error| {
            Failure::Unreachable(format!("the runtime on {} broke off: {error}", self.socket.display()))
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        // It ends with the answer; its errors are the request's.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("accept", accept)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default())))
            .map_err(|error| Failure::Usage(format!("cannot ask for {path}: {error}")))?;
        sender.send_request(request).await.map_err(broke)
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let status = response.status();
        let broke = |error| Failure::Unreachable(format!("the answer broke off: {error}"));
        let bytes = response.into_body().collect().await.map_err(broke)?.to_bytes();
        if status.is_success() {
            return Ok(bytes);
        }
        let Ok(problem) = serde_json::from_slice::<ProblemBody>(&bytes) else {
            return Err(Failure::Failed(format!("the runtime answered {status}")));
        };
        Err(match problem.code.as_str() {
            "not_found" | "invalid_name" => Failure::NoTarget(problem.detail),
            "config_invalid" => Failure::Config(problem.detail),
            "not_permitted" | "unauthorized" => Failure::NotPermitted(problem.detail),
            "wrong_target" | "invalid_request" => Failure::Usage(problem.detail),
            _ => Failure::Failed(problem.detail),
        })
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let path = self.socket.display();
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            return Failure::NotPermitted(format!(
                "you may not use {path}: run this as the runtime's user, or see runtime.control.group"
            ));
        }
        Failure::Unreachable(format!(
            "no runtime answers on {path} ({error}). Start one with `regrow start`, \
             or say which with `-c FILE` or `--socket PATH`"
        ))
    }

    fn too_late(&self, limit: Duration) -> Failure {
        let (path, limit) = (self.socket.display(), crate::units::format_duration(limit));
        Failure::Unreachable(format!("the runtime on {path} did not answer within {limit}"))
    }
}

/// The route on which a verb acts on a target.
pub(crate) fn action_path(target: &Target, verb: &str) -> String {
    match target {
        Target::Worker(name) => format!("/api/v1/workers/{name}/{verb}"),
        Target::Instance(id) => format!("/api/v1/workers/{}/{verb}", encode(&id.to_string())),
        Target::Supervisor(name) => format!("/api/v1/supervisors/{name}/{verb}"),
        Target::All => format!("/api/v1/all/{verb}"),
    }
}

/// A part of a route or a value in a query: everything but plain characters encoded.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Server-sent events.
pub(crate) struct EventStream {
    body: Incoming,
    pending: Vec<u8>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamEvent {
    /// The event's name.
    pub(crate) name: String,
    /// Its data.
    pub(crate) data: String,
}

impl EventStream {
    /// The next event; `None` once the runtime is gone.
    pub(crate) async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            if let Some(event) = self.take_event() {
                return Some(event);
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.pending.extend_from_slice(&data);
            }
        }
    }

    /// Cuts the first whole block out of what has come; comments alone are no event.
    fn take_event(&mut self) -> Option<StreamEvent> {
        while let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.pending.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let field =
                |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
            if let Some(data) = field("data:") {
                let name = field("event:").unwrap_or("message").to_owned();
                return Some(StreamEvent { name, data: data.to_owned() });
            }
        }
        None
    }
}

/// Connects to a socket, or to the one that stands in its place while its directory takes nothing.
fn connect(socket: &Path) -> std::io::Result<StdUnixStream> {
    let at = |path: &Path| at_short_path(path, |short| StdUnixStream::connect(short));
    let refused = match at(socket) {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    let beside = socket.parent().filter(|_| socket.ends_with(SOCKET_NAME));
    let mut shelters = beside.into_iter().flat_map(shelter::existing);
    shelters.find_map(|shelter| at(&shelter.join(SOCKET_NAME)).ok()).ok_or(refused)
}
