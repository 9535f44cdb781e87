//! `GET /`: how the service is, for people. Written by the server at each request; a small script asks again when something
//! happens.
//!
//! Everyone who may read `/metrics` sees the same numbers here, of all tenants together. Runs are shown to the tenant
//! whose they are: without tokens that is whoever can connect.

mod html;
mod parts;
mod plots;

use std::rc::Rc;
use std::sync::LazyLock;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use void_api::Problem;
use void_store::{ListFilter, StoredRun};

use super::answer::{self, Answer, Kept};
use super::connection::Connection;
use super::runs::unreadable;
use html::Html;

/// Runs that are shown.
const RUNS: usize = 25;

/// Nothing but what this service itself serves, no script in the page, no frame around it, no form that goes anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static STYLE: LazyLock<Kept> = LazyLock::new(|| Kept::new(include_str!("../../assets/status/status.css")));
static SCRIPT: LazyLock<Kept> = LazyLock::new(|| Kept::new(include_str!("../../assets/status/status.js")));
static ICON: LazyLock<Kept> = LazyLock::new(|| Kept::new(include_str!("../../assets/status/status.svg")));

/// A part of the page.
pub(super) fn asset(path: &str, headers: &HeaderMap) -> Answer {
    let (kept, kind) = match path {
        "/status.css" => (&STYLE, "text/css; charset=utf-8"),
        "/status.js" => (&SCRIPT, "text/javascript; charset=utf-8"),
        _ => (&ICON, "image/svg+xml"),
    };
    confined(kept.answer(headers, HeaderValue::from_static(kind)))
}

/// The page. A token that is wrong is refused; none at all is no mistake.
pub(super) async fn show(connection: &Rc<Connection>, parts: &Parts) -> Result<Answer, Problem> {
    let app = &connection.lane.app;
    let needs_token = app.settings.peek().tokens.is_some();
    let runs = if needs_token && !parts.headers.contains_key(AUTHORIZATION) {
        None
    } else {
        let tenant = connection.tenant(parts)?;
        let filter = ListFilter { limit: RUNS, ..ListFilter::default() };
        let page = app.store.list(&tenant, filter).await.map_err(unreadable)?;
        Some((tenant, page.runs))
    };
    let mut html = Html::default();
    let shown = runs.as_ref().map(|(tenant, runs)| Shown { tenant, runs, linked: !needs_token });
    parts::page(&mut html, app, shown);
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    Ok(confined(answer::not_kept(answer::of(StatusCode::OK, kind, html.done()))))
}

/// The runs of the tenant that asks.
#[derive(Clone, Copy)]
struct Shown<'a> {
    tenant: &'a str,
    runs: &'a [StoredRun],
    /// Whether a browser can follow a link to a record: it sends no token by itself.
    linked: bool,
}

fn confined(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}
