//! Answers: JSON, problems, and the headers that go with them.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use void_api::limits::WAIT_MAX_SECONDS;
use void_api::{PROBLEM_JSON, Problem, ProblemCode};

use super::body::Body;
use super::route::Route;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `wait=N` for every N that is offered.
static APPLIED: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    (0..=WAIT_MAX_SECONDS)
        .filter_map(|n| HeaderValue::from_maybe_shared(Bytes::from(format!("wait={n}"))).ok())
        .collect()
});

/// An answer on its way.
pub(super) type Answer = Response<Body>;

/// An answer of any type.
pub(super) fn of(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Answer {
    with_body(status, kind, Body::Whole(body.into()))
}

/// An answer with any body.
pub(super) fn with_body(status: StatusCode, kind: HeaderValue, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    of(status, JSON, body)
}

/// `202 Accepted`: where the run is found, and when to look.
pub(super) fn accepted(body: Vec<u8>, location: String) -> Answer {
    let mut answer = json(StatusCode::ACCEPTED, body);
    let headers = answer.headers_mut();
    locate(headers, location);
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// Says where it is.
pub(super) fn locate(headers: &mut hyper::HeaderMap, location: String) {
    if let Ok(location) = HeaderValue::from_maybe_shared(Bytes::from(location)) {
        headers.insert(LOCATION, location);
    }
}

/// `200`: the preference `wait` was followed and the run has ended.
pub(super) fn waited(seconds: u32, record: Bytes) -> Answer {
    let mut answer = json(StatusCode::OK, record);
    if let Some(applied) = APPLIED.get(seconds as usize) {
        answer.headers_mut().insert(PREFERENCE_APPLIED, applied.clone());
    }
    answer
}

/// Answers that change from one moment to the next.
pub(super) fn not_kept(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Ends the connection after this answer.
pub(super) fn last(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// A refusal.
pub(super) fn problem(problem: &Problem, route: Route) -> Answer {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = of(status, HeaderValue::from_static(PROBLEM_JSON), problem.to_json());
    let headers = answer.headers_mut();
    if let Some(seconds) = problem.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    match problem.code {
        ProblemCode::MethodNotAllowed => {
            headers.insert(ALLOW, HeaderValue::from_static(route.methods()));
        }
        ProblemCode::Unauthorized if status == StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"void-wasm\""));
        }
        _ => {}
    }
    answer
}
