//! `application/problem+json` (RFC 9457): every error has a `code` that scripts may match on.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;

use crate::config::TemplateError;
use crate::runtime::{ActError, ApplyError, GrowError, TargetError};

/// An error answer.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<u32>,
    problems: Option<serde_json::Value>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, problems: None }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    pub(crate) fn unauthorized() -> Self {
        let detail = "this address serves only /livez, /readyz, /metrics and, where it is a loopback address, /health; everything \
             else is on the control socket";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(crate) fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail) }
    }
}

impl From<TargetError> for Problem {
    fn from(error: TargetError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_name", error.to_string())
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        let detail = error.to_string();
        match error {
            ActError::NotFound(_) => Self::not_found(detail),
            ActError::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", detail),
            ActError::Unsuited(_) => Self::new(StatusCode::BAD_REQUEST, "wrong_target", detail),
            ActError::ShuttingDown => Self {
                retry_after: Some(5),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", detail)
            },
        }
    }
}

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Act(error) => error.into(),
            ApplyError::NoFile => Self::new(StatusCode::CONFLICT, "no_file", error.to_string()),
            ApplyError::Unread => Self::new(StatusCode::CONFLICT, "unread", error.to_string()),
            ApplyError::Invalid(diagnostics) => Self {
                problems: serde_json::to_value(diagnostics.problems()).ok(),
                ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "config_invalid", diagnostics.render(false))
            },
        }
    }
}

impl From<GrowError> for Problem {
    fn from(error: GrowError) -> Self {
        let detail = error.to_string();
        match error {
            GrowError::Act(error) => error.into(),
            GrowError::OfFile(_) => Self::new(StatusCode::CONFLICT, "conflict", detail),
            GrowError::Spec(_) => Self::new(StatusCode::CONFLICT, "conflict", detail),
            GrowError::NotKept(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "not_kept", detail),
            GrowError::Template(TemplateError::NoTemplate { .. }) => Self::not_found(detail),
            GrowError::Template(
                TemplateError::Missing { .. } | TemplateError::Unknown { .. } | TemplateError::Refused { .. },
            ) => Self::invalid(detail),
            GrowError::Template(
                TemplateError::Taken(_)
                | TemplateError::Reserved(_)
                | TemplateError::Full { .. }
                | TemplateError::Broken { .. },
            ) => Self::new(StatusCode::CONFLICT, "conflict", detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let (Some(problems), Some(body)) = (self.problems, body.as_object_mut()) {
            body.insert("problems".to_owned(), problems);
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"regrow\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
