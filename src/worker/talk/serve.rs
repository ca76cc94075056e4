//! What can be asked on a worker's socket.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::UnixStream;

use crate::worker::WorkerReport;
use crate::worker::notify::shown;

use super::kept;
use super::{Badge, Desk};

/// A request's head must be complete after this, and an idle connection ends.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's body must be complete after this.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest request head.
const HEAD_BYTES: usize = 16 * 1024;
/// Longest body that is no state.
const BODY_BYTES: usize = 64 * 1024;
/// Figures of one heartbeat; as many as a probe may bring along.
const FIGURES: usize = 32;
/// Longest name of a figure or an error class.
const NAME_BYTES: usize = 63;

type Answer = Response<Full<Bytes>>;

/// Serves one connection to its end.
pub(super) async fn serve(stream: UnixStream, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move {
            desk.pace().await;
            Ok::<_, Infallible>(answer(&desk, request).await.unwrap_or_else(Refusal::answer))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .half_close(true);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection on a worker's socket broke off");
    }
}

/// Why something is not done.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    fn answer(self) -> Answer {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = serde_json::json!({
            "title": title, "status": self.status.as_u16(), "code": self.code, "detail": self.detail,
        });
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, value("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, value("Bearer"));
        }
        response
    }
}

async fn answer(desk: &Arc<Desk>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let badge = match speaker(desk, &request) {
        Ok(badge) => badge,
        Err(refusal) => return Err(heard_out(request, refusal).await),
    };
    let path = request.uri().path().to_owned();
    let Some(what) = path.strip_prefix("/worker/v1/") else {
        return Err(heard_out(request, unknown(&path)).await);
    };
    let method = request.method().clone();
    match (what, &method) {
        ("heartbeat", &Method::POST) => heartbeat(desk, &badge, &body(request, BODY_BYTES).await?),
        ("ready", &Method::POST) => {
            body(request, BODY_BYTES).await?;
            desk.ready(badge.incarnation);
            Ok(done())
        }
        ("error", &Method::POST) => error(desk, &badge, &body(request, BODY_BYTES).await?),
        ("state", &Method::GET) => state(desk).await,
        ("state", &Method::PUT) => keep(desk, &body(request, kept::MOST).await?).await,
        ("heartbeat" | "ready" | "error" | "state", _) => {
            let detail = match what {
                "state" => "GET what is kept, PUT what is to be kept".to_owned(),
                _ => format!("POST {path}"),
            };
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
            Err(heard_out(request, refusal).await)
        }
        _ => Err(heard_out(request, unknown(&path)).await),
    }
}

/// What is refused whatever it says is read to its end all the same: whoever is still sending hears the answer, and not
/// that the socket is closed.
async fn heard_out(request: Request<Incoming>, refusal: Refusal) -> Refusal {
    // What is wrong with the body is no news to whoever is refused anyway.
    let _ = body(request, BODY_BYTES).await;
    refusal
}

fn unknown(path: &str) -> Refusal {
    let detail = format!(
        "there is no {path} here; a worker may POST /worker/v1/heartbeat, /ready and /error, and GET or PUT /worker/v1/state"
    );
    Refusal::new(StatusCode::NOT_FOUND, "not_found", detail)
}

fn speaker(desk: &Desk, request: &Request<Incoming>) -> Result<Arc<Badge>, Refusal> {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|shown| {
        let (scheme, token) = shown.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let detail = match token {
        None => "send the header `Authorization: Bearer $REGROW_TOKEN`",
        Some(token) => match desk.speaker(token) {
            Some(badge) => return Ok(badge),
            None => {
                "this is not the token of the incarnation that runs now; each start has a REGROW_TOKEN of its own"
            }
        },
    };
    Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", detail))
}

async fn body(request: Request<Incoming>, most: usize) -> Result<Bytes, Refusal> {
    let limited = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(BODY_TIMEOUT, limited).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("at most {most} bytes");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
        }
        Ok(Err(error)) => Err(Refusal::invalid(format!("the body broke off: {error}"))),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not come in 30 s")),
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beat {
    status: Option<String>,
    progress: Option<f64>,
    #[serde(default)]
    metrics: BTreeMap<String, f64>,
}

fn heartbeat(desk: &Desk, badge: &Badge, body: &[u8]) -> Result<Answer, Refusal> {
    let beat: Beat = if body.trim_ascii().is_empty() { Beat::default() } else { json(body)? };
    let odd = |name: &&String| !is_name(name);
    if let Some(name) = beat.metrics.keys().find(odd) {
        return Err(Refusal::invalid(format!(
            "{name:?} is no name of a figure: letters, digits and _ . - : /, at most {NAME_BYTES}"
        )));
    }
    if beat.metrics.len() > FIGURES {
        return Err(Refusal::invalid(format!("at most {FIGURES} figures in one heartbeat")));
    }
    let tell = |report| (desk.report)(badge.incarnation, report);
    tell(WorkerReport::Beat);
    if let Some(text) = beat.status {
        tell(WorkerReport::Status { text: badge.redact(shown(text.as_bytes())) });
    }
    if beat.progress.is_some() || !beat.metrics.is_empty() {
        let moved = beat.progress.is_some_and(|progress| badge.moves_to(progress));
        let metrics = beat.metrics.into_iter().map(|(name, value)| (badge.redact(name), value)).collect();
        tell(WorkerReport::Figures { progress: beat.progress, moved, metrics });
    }
    Ok(done())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    class: Option<String>,
    #[serde(default)]
    message: String,
}

fn error(desk: &Desk, badge: &Badge, body: &[u8]) -> Result<Answer, Refusal> {
    let Failure { class, message } = json(body)?;
    if let Some(class) = class.as_ref().filter(|class| !is_name(class)) {
        return Err(Refusal::invalid(format!(
            "{class:?} is no name of an error class: letters, digits and _ . - : /, at most {NAME_BYTES}"
        )));
    }
    let message = badge.redact(shown(message.as_bytes()));
    let class = class.map(|class| badge.redact(class));
    (desk.report)(badge.incarnation, WorkerReport::Trouble { class, message });
    Ok(done())
}

async fn state(desk: &Arc<Desk>) -> Result<Answer, Refusal> {
    let from = Arc::clone(desk);
    let read = on_disk(move || kept::read(&from.state)).await?;
    let Some(bytes) = read else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "not_found", "nothing is kept yet"));
    };
    let mut response = Response::new(Full::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, value("application/octet-stream"));
    Ok(response)
}

async fn keep(desk: &Arc<Desk>, bytes: &Bytes) -> Result<Answer, Refusal> {
    let (to, bytes) = (Arc::clone(desk), bytes.clone());
    on_disk(move || {
        // One after the other: they are written beside and renamed.
        let _turn = super::lock(&to.writing);
        kept::write(&to.state, &bytes)
    })
    .await?;
    Ok(done())
}

/// The disk may be slow, and this thread starts workers.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| {
        let (kind, detail) = (error.kind(), error.to_string());
        if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", detail);
        }
        let code = if kind == io::ErrorKind::InvalidData { "state_unreadable" } else { "disk" };
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, code, detail)
    })
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':' | '/');
    !text.is_empty() && text.len() <= NAME_BYTES && text.chars().all(fits)
}

fn done() -> Answer {
    let mut response = Response::new(Full::from("{\"ok\":true}"));
    response.headers_mut().insert(CONTENT_TYPE, value("application/json"));
    response
}

fn value(text: &'static str) -> hyper::header::HeaderValue {
    hyper::header::HeaderValue::from_static(text)
}
