//! Who calls: the tenant of a bearer token, or `default` where the service has no tokens.

use std::cell::RefCell;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use hyper::{Method, StatusCode};
use subtle::ConstantTimeEq;
use void_api::{Problem, ProblemCode};

use crate::settings::Snapshot;

const DEFAULT: &str = "default";

/// What a connection remembers of its last caller, so that a token is looked up once and not with each request. Also this
/// comparison takes constant time: behind a proxy, the next request on a connection may be somebody else's.
#[derive(Debug, Default)]
pub(super) struct Caller(RefCell<Option<Known>>);

#[derive(Debug)]
struct Known {
    generation: u64,
    /// Empty without tokens.
    authorization: Box<[u8]>,
    tenant: Arc<str>,
}

impl Caller {
    /// The tenant of a request.
    pub(super) fn tenant(
        &self,
        settings: &Snapshot,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Arc<str>, Problem> {
        let given = match &settings.tokens {
            Some(_) => headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default(),
            None => {
                check_origin(method, headers)?;
                &[]
            }
        };
        if let Some(known) = &*self.0.borrow()
            && known.generation == settings.generation
            && bool::from(known.authorization.ct_eq(given))
        {
            return Ok(Arc::clone(&known.tenant));
        }
        let tenant: Arc<str> = match &settings.tokens {
            Some(tokens) => {
                let token = bearer(given).ok_or_else(missing)?;
                Arc::from(tokens.tenant(token).ok_or_else(unknown)?.as_str())
            }
            None => Arc::from(DEFAULT),
        };
        *self.0.borrow_mut() = Some(Known {
            generation: settings.generation,
            authorization: given.into(),
            tenant: Arc::clone(&tenant),
        });
        Ok(tenant)
    }
}

/// The token of an `Authorization` header, RFC 6750.
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn missing() -> Problem {
    Problem::new(ProblemCode::Unauthorized, "a token is needed: send the header Authorization: Bearer TOKEN")
}

fn unknown() -> Problem {
    Problem::new(ProblemCode::Unauthorized, "the token is not known here: ask the operator for one that is")
}

/// Without tokens whoever can connect is the tenant, and so is every page in a browser on this machine: such a page's
/// writes say where the page is from, and only pages of this very service may write.
fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    if matches!(*method, Method::GET | Method::HEAD) || (from.is_some() && from == own) {
        return Ok(());
    }
    let mut problem = Problem::new(
        ProblemCode::Unauthorized,
        "a web page of another origin may not write here: set WASM_API_TOKENS_FILE and send a token, or use another client",
    );
    problem.status = StatusCode::FORBIDDEN.as_u16();
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use void_policy::{Settings, Tokens};

    fn snapshot(tokens: Option<&str>) -> Snapshot {
        let (settings, _) = Settings::from_vars([], None, 1).unwrap();
        let mut snapshot = Snapshot::of_run(settings);
        snapshot.tokens = tokens.map(|text| Tokens::parse(text).unwrap());
        snapshot
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (hyper::header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn ask(caller: &Caller, settings: &Snapshot, authorization: &str) -> Result<String, u16> {
        let headers = headers(&[("authorization", authorization)]);
        caller.tenant(settings, &Method::POST, &headers).map(|t| t.to_string()).map_err(|p| p.status)
    }

    #[test]
    fn each_token_has_its_tenant_also_on_one_connection() {
        let settings = snapshot(Some("alice one\nbob two"));
        let caller = Caller::default();
        for _ in 0..2 {
            assert_eq!(ask(&caller, &settings, "Bearer one").unwrap(), "alice");
            assert_eq!(ask(&caller, &settings, "bearer  one").unwrap(), "alice");
            assert_eq!(ask(&caller, &settings, "Bearer two").unwrap(), "bob");
            for wrong in ["", "Bearer", "Bearer ", "Bearer on", "Basic one", "one", "Bearer one x"] {
                assert_eq!(ask(&caller, &settings, wrong), Err(401), "{wrong}");
            }
        }
        assert_eq!(caller.tenant(&settings, &Method::GET, &HeaderMap::new()).unwrap_err().status, 401);
    }

    #[test]
    fn a_token_that_was_taken_away_is_no_longer_known() {
        let caller = Caller::default();
        assert_eq!(ask(&caller, &snapshot(Some("alice one")), "Bearer one").unwrap(), "alice");
        let mut later = snapshot(Some("bob two"));
        later.generation += 1;
        assert_eq!(ask(&caller, &later, "Bearer one"), Err(401));
    }

    #[test]
    fn without_tokens_there_is_one_tenant_and_no_foreign_page() {
        let (settings, caller) = (snapshot(None), Caller::default());
        let status = |method: Method, pairs: &[(&'static str, &str)]| {
            caller.tenant(&settings, &method, &headers(pairs)).map(|t| t.to_string()).map_err(|p| p.status)
        };
        assert_eq!(status(Method::POST, &[]), Ok("default".to_owned()));
        assert_eq!(
            status(Method::POST, &[("host", "a:1"), ("origin", "http://a:1")]),
            Ok("default".to_owned())
        );
        for origin in ["http://evil.example", "null", "http://a:2"] {
            assert_eq!(status(Method::POST, &[("host", "a:1"), ("origin", origin)]), Err(403), "{origin}");
            assert_eq!(status(Method::GET, &[("host", "a:1"), ("origin", origin)]), Ok("default".to_owned()));
        }
    }
}
