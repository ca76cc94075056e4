//! Bodies: reading a small one from a client that may stall, and streaming one that never ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::problem::Problem;

/// Largest body an action may have; those that exist need none.
const MOST_BYTES: usize = 64 << 10;

/// The largest that brings along what other hosts have learned: some forty thousand outcomes, and half of what a record
/// of the store holds.
const MOST_LORE: usize = 8 << 20;

/// Where that goes.
const LORE: &str = "/api/v1/strategies/import";

/// A body must be complete after this.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads and checks the body of an action, so that no handler meets a hostile one.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let most = if head.uri.path() == LORE { MOST_LORE } else { MOST_BYTES };
    match tokio::time::timeout(TIMEOUT, Limited::new(body, most).collect()).await {
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in 10 s")
            .into_response(),
        Ok(Err(_)) => {
            let most = crate::units::format_size(most as u64);
            let detail = format!("the body is larger than {most}, or it broke off");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail).into_response()
        }
        Ok(Ok(collected)) => {
            let bytes = collected.to_bytes();
            let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            if let Err(problem) = is_json(&bytes, kind) {
                return problem.into_response();
            }
            next.run(Request::from_parts(head, Body::from(bytes))).await
        }
    }
}

fn is_json(bytes: &Bytes, kind: Option<&str>) -> Result<(), Problem> {
    if bytes.is_empty() {
        return Ok(());
    }
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if kind != Some("application/json") {
        let detail = "a body must be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail));
    }
    // The parser limits the depth by itself. What is large goes to one handler, which reads it into less than this.
    let parsed = match bytes.len() {
        ..=MOST_BYTES => serde_json::from_slice::<serde_json::Value>(bytes).map(drop),
        _ => serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map(drop),
    };
    parsed.map_err(|error| Problem::invalid(format!("the body is no JSON: {error}")))
}

/// A body fed by a task; ends when the task drops its sender.
pub(crate) struct Stream(pub(crate) mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
