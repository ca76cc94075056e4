//! gRPC's health service (`grpc.health.v1.Health/Check`), in clear text.
//!
//! Request and answer are messages of one field each, so they are written and read by hand; a generated client would
//! bring a compiler for protocol buffers into every build.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::probe::{Found, Look, Patient, Probe};

use super::net;

/// An answer is a few bytes.
const MOST: usize = 16 * 1024;

/// One call.
pub(in crate::probe) struct Grpc {
    pub(in crate::probe) host: String,
    pub(in crate::probe) service: String,
}

impl Probe for Grpc {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async { self.ask(patient).await.unwrap_or_else(|found| found) })
    }
}

impl Grpc {
    async fn ask(&self, patient: &Patient) -> Result<Found, Found> {
        let (host, service) = (patient.fill(&self.host), patient.fill(&self.service));
        let stream = net::tcp(patient, &host).await?;
        let broken = |error: hyper::Error| Found::fail(format!("no gRPC answer: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(broken)?;
        let request = Request::post(format!("http://{host}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(question(&service))))
            .map_err(|error| Found::error(format!("{host} is no host: {error}")))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let (head, mut body) = response.into_parts();
            let (mut data, mut trailers) = (Vec::new(), None);
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(broken)?;
                if let Some(part) = frame.data_ref() {
                    let room = MOST - data.len();
                    data.extend_from_slice(&part[..part.len().min(room)]);
                }
                if let Ok(last) = frame.into_trailers() {
                    trailers = Some(last);
                }
                if data.len() == MOST {
                    break;
                }
            }
            if head.status != StatusCode::OK {
                return Ok(Found::fail(format!("HTTP {} in place of a gRPC answer", head.status)));
            }
            // An error without a message has its status in the head.
            let status = trailers.as_ref().unwrap_or(&head.headers).get("grpc-status");
            Ok(judge(status.and_then(|status| status.to_str().ok()), &data, &service))
        };
        // The connection works only while it is polled, and goes with this look.
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(broken(error)),
            },
        }
    }
}

/// `HealthCheckRequest { service = 1 }` behind the five bytes that say: not compressed, so long.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend(message);
    framed
}

fn varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn judge(status: Option<&str>, data: &[u8], service: &str) -> Found {
    let whom = if service.is_empty() { "the server".to_owned() } else { format!("service {service}") };
    match status {
        None | Some("0") => {}
        Some("5") => return Found::fail(format!("{whom} is not known to the health service")),
        Some("12") => return Found::error("the server has no health service (UNIMPLEMENTED)"),
        Some(other) => return Found::fail(format!("gRPC status {other}")),
    }
    match serving(data) {
        Some(1) => Found::pass(format!("{whom} is SERVING")),
        Some(2) => Found::fail(format!("{whom} is NOT_SERVING")),
        Some(3) => Found::fail(format!("{whom} is SERVICE_UNKNOWN")),
        Some(0) => Found::fail(format!("{whom} is UNKNOWN")),
        Some(other) => Found::error(format!("{whom} answers with a status of its own: {other}")),
        None => Found::error("the answer cannot be read"),
    }
}

/// `HealthCheckResponse { status = 1 }`; an absent field is 0.
fn serving(data: &[u8]) -> Option<u64> {
    let (head, message) = data.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..5)?.try_into().ok()?) as usize;
    let mut rest = message.get(..length).filter(|_| head.first() == Some(&0))?;
    let mut status = 0;
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = take_varint(&mut rest)?,
            (_, 0) => drop(take_varint(&mut rest)?),
            (_, 2) => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            (_, 1) => rest = rest.get(8..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::health::Grade;

    #[test]
    fn the_messages_are_those_of_the_protocol() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(serving(&[0, 0, 0, 0, 2, 0x08, 1]), Some(1));
        assert_eq!(serving(&[0, 0, 0, 0, 0]), Some(0));
        // With a field that nobody knows yet.
        assert_eq!(serving(&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 0x08, 2]), Some(2));
        assert_eq!(serving(&[0, 0, 0, 0, 9, 0x08]), None);
        assert_eq!(judge(Some("0"), &[0, 0, 0, 0, 2, 8, 1], "x").grade, Grade::Pass);
        assert_eq!(judge(Some("5"), &[], "x").grade, Grade::Fail);
        assert_eq!(judge(Some("12"), &[], "").grade, Grade::Error);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = serving(&data);
        }
    }
}
