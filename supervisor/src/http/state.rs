//! How the service is: `/health`, `/readyz`, `/metrics`, `/openapi.json` for everyone who can connect, `/v1/policy` for
//! tenants.

use std::rc::Rc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::json;
use void_api::{Problem, ProblemCode};

use super::answer::{self, Answer};
use super::exec::disabled;
use super::query::none;
use super::route::Route;
use crate::app::App;
use crate::lane::Lane;
use crate::metrics::{self, Moment};

const OPENAPI: &str = include_str!("openapi.json");

/// The routes that need no tenant. Their queries are ignored: probes add what they like.
pub(super) fn open(lane: &Rc<Lane>, route: Route) -> Result<Answer, Problem> {
    let app = &lane.app;
    let text = Bytes::from_static;
    let answer = match route {
        Route::Health => answer::json(StatusCode::OK, text(b"{\"status\":\"ok\"}")),
        Route::Ready => match not_ready(app) {
            Some(problem) => return Err(problem),
            None => answer::json(StatusCode::OK, text(b"{\"status\":\"ready\"}")),
        },
        Route::Metrics => {
            let moment = Moment {
                switches: &app.settings.peek().settings.switches,
                supply: &app.supply.stats(),
                store: &app.store.stats(),
                layers: &app.layers.names(),
                queued: app.slots.queued(),
            };
            let page = app.metrics.render(&moment).map_err(|error| {
                tracing::error!(%error, "the metrics cannot be written");
                Problem::new(
                    ProblemCode::Internal,
                    "the metrics cannot be written, by a fault of the service",
                )
            })?;
            answer::of(StatusCode::OK, HeaderValue::from_static(metrics::CONTENT_TYPE), page)
        }
        _ => answer::json(StatusCode::OK, text(OPENAPI.as_bytes())),
    };
    Ok(answer::not_kept(answer))
}

/// Why a run would not be taken now.
fn not_ready(app: &App) -> Option<Problem> {
    let unavailable = |detail: &str| Some(Problem::new(ProblemCode::Unavailable, detail));
    if app.state.draining() {
        return Some(Problem::new(ProblemCode::Draining, "the service is stopping: ask another one"));
    }
    if !app.state.ready() {
        return unavailable("the service is not ready to run anything yet: ask again in a moment");
    }
    let now = app.settings.peek();
    if !now.settings.switches.enabled {
        return Some(disabled());
    }
    if app.store.stats().failing {
        return unavailable("the state directory cannot be written now: look at the service's log");
    }
    if app.store.is_backlogged() {
        return unavailable("too much waits to be written: ask again in a moment");
    }
    if !app.slots.has_room() {
        return unavailable("the queue is full: ask again in a moment");
    }
    None
}

/// `GET /v1/policy`: the settings in force that a tenant may know, and the layers that stand around a run.
pub(super) fn policy(lane: &Rc<Lane>, tenant: &str, query: Option<&str>) -> Result<Answer, Problem> {
    none(query)?;
    let app = &lane.app;
    let now = app.settings.now();
    let settings = &now.settings;
    let missing: Vec<_> = app
        .layers
        .missing()
        .iter()
        .map(|refused| json!({"layer": refused.layer.name(), "detail": refused.detail}))
        .collect();
    let shown: serde_json::Map<_, _> =
        settings.public_view().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let policy = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "tenant": tenant,
        "generation": now.generation,
        "enabled": settings.switches.enabled,
        "freeze": settings.switches.freeze,
        "canary": settings.switches.canary,
        "caps": settings.grants.caps,
        "limits": settings.limits,
        "http": settings.grants.http,
        "kv": settings.grants.kv,
        "work": settings.work,
        "retention": settings.retention,
        "isolation": {
            "mode": settings.work.isolation,
            "layers": app.layers.names(),
            "missing": missing,
        },
        "settings": shown,
    });
    Ok(answer::not_kept(answer::json(StatusCode::OK, policy.to_string())))
}
