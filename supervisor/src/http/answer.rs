//! Answers: JSON, problems, and the headers that go with them.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    LOCATION, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};
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

/// A text that stays as it is for as long as the process lives, with the ETag that says so.
pub(super) struct Kept {
    text: Bytes,
    etag: Option<HeaderValue>,
}

impl Kept {
    /// Keeps a text.
    pub(super) fn new(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let digest = Sha256::digest(&text);
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        // Hex digits in quotes always are a header's value.
        let etag = HeaderValue::from_maybe_shared(Bytes::from(format!("\"{hex}\""))).ok();
        Self { text, etag }
    }

    /// The text, or `304` where the client has it.
    pub(super) fn answer(&self, asked: &HeaderMap, kind: HeaderValue) -> Answer {
        let known = self.etag.as_ref().is_some_and(|etag| has(asked, etag));
        let mut answer = if known {
            let mut answer = Response::new(Body::Whole(Bytes::new()));
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer
        } else {
            of(StatusCode::OK, kind, self.text.clone())
        };
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Some(etag) = &self.etag {
            headers.insert(ETAG, etag.clone());
        }
        answer
    }
}

/// Whether `If-None-Match` names the tag, or any. The weak form of a tag is as good here.
fn has(asked: &HeaderMap, etag: &HeaderValue) -> bool {
    let lists = asked.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let kept = Kept::new("text");
        let ask = |tags: &[&'static str]| {
            let mut headers = HeaderMap::new();
            tags.iter().for_each(|tag| {
                headers.append(IF_NONE_MATCH, HeaderValue::from_static(tag));
            });
            kept.answer(&headers, JSON)
        };
        let answer = ask(&[]);
        assert_eq!(answer.status(), 200);
        // The first 16 bytes of the text's digest, from sha256sum.
        assert_eq!(answer.headers()[ETAG], "\"982d9e3eb996f559e633f4d194def376\"");
        for tags in [
            &["\"982d9e3eb996f559e633f4d194def376\""][..],
            &["W/\"982d9e3eb996f559e633f4d194def376\""],
            &["\"x\", \"982d9e3eb996f559e633f4d194def376\""],
            &["\"x\"", "*"],
        ] {
            let answer = ask(tags);
            assert_eq!(answer.status(), 304, "{tags:?}");
            assert!(answer.headers().contains_key(ETAG) && !answer.headers().contains_key(CONTENT_TYPE));
        }
        for tags in [&["\"x\""][..], &["982d9e3eb996f559e633f4d194def376"], &[""]] {
            assert_eq!(ask(tags).status(), 200, "{tags:?}");
        }
    }
}
