//! How the service is: `/health`, `/readyz`, `/metrics` for everyone who can connect, `/v1/policy` for tenants.

use std::rc::Rc;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Serialize;
use void_api::{Problem, ProblemCode};

use super::answer::{self, Answer};
use super::openapi::{Live, MissingLayer, PolicyView, Ready};
use super::query::none;
use super::route::Route;
use crate::app::App;
use crate::lane::Lane;
use crate::metrics::{self, Moment};
use crate::run::disabled;

/// The routes that need no tenant. Their queries are ignored: probes add what they like.
pub(super) fn open(lane: &Rc<Lane>, route: Route) -> Result<Answer, Problem> {
    let app = &lane.app;
    let answer = match route {
        Route::Health => written(&Live { status: "ok" }),
        Route::Ready => match not_ready(app) {
            Some(problem) => return Err(problem),
            None => written(&Ready { status: "ready" }),
        },
        _ => {
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
    };
    Ok(answer::not_kept(answer))
}

fn written(body: &impl Serialize) -> Answer {
    // Strings and numbers under fixed or string keys: this cannot fail.
    answer::json(StatusCode::OK, serde_json::to_vec(body).unwrap_or_default())
}

/// Why a run would not be taken now.
pub(super) fn not_ready(app: &App) -> Option<Problem> {
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
    let policy = PolicyView {
        version: env!("CARGO_PKG_VERSION"),
        tenant,
        generation: now.generation,
        enabled: settings.switches.enabled,
        freeze: settings.switches.freeze,
        canary: settings.switches.canary,
        caps: settings.grants.caps,
        limits: settings.limits,
        http: &settings.grants.http,
        kv: settings.grants.kv,
        work: settings.work,
        retention: settings.retention,
        isolation: settings.work.isolation,
        layers: app.layers.names(),
        layers_missing: app
            .layers
            .missing()
            .iter()
            .map(|refused| MissingLayer { layer: refused.layer.name(), detail: &refused.detail })
            .collect(),
        settings: settings.public_view().into_iter().collect(),
    };
    Ok(answer::not_kept(written(&policy)))
}
