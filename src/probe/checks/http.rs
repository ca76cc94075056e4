//! An HTTP answer.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes};
use hyper::{Request, Response, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::HttpCheck;
use crate::probe::{Found, Look, Patient, Probe};

use super::net;

/// Of a body, more is not read: an answer to a probe is a line.
const MOST: usize = 64 * 1024;

/// One request.
pub(in crate::probe) struct Http {
    pub(in crate::probe) check: HttpCheck,
}

impl Probe for Http {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async { self.ask(patient).await.unwrap_or_else(|found| found) })
    }
}

impl Http {
    async fn ask(&self, patient: &Patient) -> Result<Found, Found> {
        let url = patient.fill(&self.check.url);
        let uri: Uri = url.parse().map_err(|error| Found::error(format!("{url} is no URL: {error}")))?;
        let Some(authority) = uri.authority() else {
            return Err(Found::error(format!("{url} names no host")));
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(self.check.method.as_str())
            .uri(path)
            .header(header::USER_AGENT, concat!("regrow/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close");
        if !self.check.headers.keys().any(|name| name.eq_ignore_ascii_case("host")) {
            request = request.header(header::HOST, authority.as_str());
        }
        for (name, value) in &self.check.headers {
            request = request.header(name.as_str(), patient.fill(value));
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| Found::error(format!("the request cannot be made: {error}")))?;
        match &self.check.unix {
            Some(path) => {
                let stream = net::unix(&patient.fill(path)).await?;
                self.exchange(stream, request).await
            }
            None => {
                let host = authority.host().trim_start_matches('[').trim_end_matches(']');
                let port = authority.port_u16().unwrap_or(80);
                let address =
                    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
                let stream = net::tcp(patient, &address).await?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, request: Request<Empty<Bytes>>) -> Result<Found, Found>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| Found::fail(format!("no HTTP answer: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut connection = std::pin::pin!(connection);
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            self.judge(response).await
        };
        let mut answer = std::pin::pin!(answer);
        // The connection works only while it is polled, and goes with this look.
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                // All that was sent has arrived; the answer reads the rest.
                Ok(()) => answer.await,
                Err(error) => Err(broken(error)),
            },
        }
    }

    async fn judge<B>(&self, response: Response<B>) -> Result<Found, Found>
    where
        B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
    {
        let status = response.status();
        let code = status.as_u16();
        if !self.check.expect_status.iter().any(|range| range.holds(code)) {
            return Ok(Found::fail(format!("HTTP {status}")));
        }
        let Some(wanted) = &self.check.expect_body else {
            return Ok(Found::pass(format!("HTTP {status}")));
        };
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| Found::fail(format!("HTTP {status}, and its body broke off: {error}")))?;
            if let Some(data) = frame.data_ref() {
                let room = MOST - text.len();
                text.extend_from_slice(&data[..data.len().min(room)]);
            }
            if memchr::memmem::find(&text, wanted.as_bytes()).is_some() {
                return Ok(Found::pass(format!("HTTP {status}, with {wanted:?}")));
            }
            if text.len() == MOST {
                break;
            }
        }
        Ok(Found::fail(format!("HTTP {status}, but its body does not say {wanted:?}")))
    }
}
