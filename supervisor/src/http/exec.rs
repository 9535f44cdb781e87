//! `POST /v1/exec`: reads a request, has it submitted, and answers now or when the run has ended.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use tokio::time::timeout;
use void_api::limits::BODY_MAX_BYTES;
use void_api::{Accepted, ExecRequest, Mode, Problem, ProblemCode, one_idempotency_key};

use super::answer::{self, Answer};
use super::connection::Connection;
use super::prefer;
use super::runs::unreadable;
use crate::run::{self, Promise, Submitted, Unheard, disabled};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The refusal of a body that is too large.
pub(super) fn too_large() -> Problem {
    let detail = format!("the body is larger than {BODY_MAX_BYTES} bytes: send less");
    Problem::new(ProblemCode::PayloadTooLarge, detail)
}

/// Takes a run on.
pub(super) async fn exec(
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
) -> Result<Answer, Problem> {
    let lane = &connection.lane;
    let body = connection.read(body, BODY_MAX_BYTES, PATIENCE, too_large).await?;
    let parsed = ExecRequest::parse(&body);
    drop(body);
    // The order of docs/api.md: what breaks the form, who calls, the switch, then what has the form and cannot be.
    let parsed = match parsed {
        Err(problem) if problem.status != StatusCode::UNPROCESSABLE_ENTITY.as_u16() => return Err(problem),
        parsed => parsed,
    };
    let tenant = connection.tenant(parts)?;
    if !lane.app.settings.peek().settings.switches.enabled {
        return Err(disabled());
    }
    let mut request = parsed?;
    request.idempotency_key =
        one_idempotency_key(key_header(&parts.headers)?, request.idempotency_key.take())?;

    let wait = prefer::wait(&parts.headers).filter(|seconds| *seconds > 0);
    let promise = if wait.is_some() { Promise::Answer } else { Promise::Accept };
    let mut submitted = run::submit(lane, Arc::clone(&tenant), request, promise).await?;
    // From here to the answer the client may hang up, which drops this: a run that it has not been told of then ends.
    let unheard = submitted.unheard.take();
    if let (Some(seconds), Some(live)) = (wait, &submitted.live)
        && submitted.mode != Mode::Cached
    {
        if let Ok(record) = timeout(Duration::from_secs(u64::from(seconds)), live.ended()).await {
            told(unheard);
            return Ok(answer::waited(seconds, record));
        }
        if unheard.is_some() {
            must_be_stored(connection, &tenant, &submitted).await?;
        }
    }
    told(unheard);
    Ok(accepted(&submitted))
}

fn told(unheard: Option<Unheard>) {
    if let Some(unheard) = unheard {
        unheard.told();
    }
}

/// A run that was to be stored with its end has to be there before its client is told to ask for it later. It was sent
/// to the store long before: where it is not there yet, the store has trouble, and nothing must be promised.
async fn must_be_stored(connection: &Connection, tenant: &str, submitted: &Submitted) -> Result<(), Problem> {
    match connection.lane.app.store.get(tenant, submitted.run_id).await.map_err(unreadable)? {
        Some(_) => Ok(()),
        None => Err(Problem::new(
            ProblemCode::Unavailable,
            "the run could not be stored and was cancelled: try again in a moment, and tell the operator",
        )),
    }
}

fn accepted(submitted: &Submitted) -> Answer {
    let Submitted { run_id, mode, warning, .. } = submitted;
    let accepted =
        Accepted { run_id: *run_id, accepted: true, mode: *mode, warning: warning.map(ToOwned::to_owned) };
    // Words and a flag under fixed keys: this cannot fail.
    let body = serde_json::to_vec(&accepted).unwrap_or_default();
    let location = format!("/v1/runs/{run_id}");
    if *mode == Mode::Cached {
        let mut answer = answer::json(StatusCode::OK, body);
        answer::locate(answer.headers_mut(), location);
        return answer;
    }
    answer::accepted(body, location)
}

/// The `Idempotency-Key` header.
fn key_header(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let refuse = |detail| Err(Problem::new(ProblemCode::InvalidHeader, detail));
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else { return Ok(None) };
    if given.any(|other| other != key) {
        return refuse("the header Idempotency-Key stands twice with different values: give one");
    }
    match std::str::from_utf8(key.as_bytes()) {
        Ok(key) => Ok(Some(key)),
        Err(_) => refuse("the header Idempotency-Key is not UTF-8: give it as text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    #[test]
    fn the_key_header_is_one_text() {
        let name = HeaderName::from_static(IDEMPOTENCY_KEY);
        let mut headers = HeaderMap::new();
        assert_eq!(key_header(&headers).unwrap(), None);
        headers.append(&name, HeaderValue::from_bytes("schlüssel".as_bytes()).unwrap());
        headers.append(&name, HeaderValue::from_bytes("schlüssel".as_bytes()).unwrap());
        assert_eq!(key_header(&headers).unwrap(), Some("schlüssel"));
        headers.append(&name, HeaderValue::from_static("other"));
        assert_eq!(key_header(&headers).unwrap_err().status, 400);
        headers.insert(&name, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(key_header(&headers).unwrap_err().code, ProblemCode::InvalidHeader);
    }
}
