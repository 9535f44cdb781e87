//! One connection: requests in, answers out, until the client leaves, idles for too long, or the service drains.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use tokio::time::{Instant, sleep};
use void_api::limits::BODY_MAX_BYTES;
use void_api::{Problem, ProblemCode};

use super::answer::{self, Answer};
use super::auth::Caller;
use super::route::Route;
use super::{body, events, exec, modules, openapi, page, query, runs, state};
use crate::lane::Lane;
use crate::stream::{StdStream, Told};

/// A connection on which nothing moves is closed after this, or at most twice as long: one between two requests, one
/// whose head does not become complete, one whose client does not read.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of a request's head, and of what is read ahead of a body.
const BUFFER_BYTES: usize = 64 << 10;

/// What the requests of one connection share.
pub(super) struct Connection {
    pub(super) lane: Rc<Lane>,
    caller: Caller,
    told: Rc<Told>,
    busy: Cell<bool>,
    served: Cell<u64>,
}

/// Serves a connection to its end.
///
/// A client that hangs up drops what is being awaited for it here, and nothing else: a run that was accepted goes on.
pub(crate) async fn serve_connection(lane: Rc<Lane>, stream: StdStream, peer: String) {
    let app = Arc::clone(&lane.app);
    let stream = match stream.into_tokio() {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(peer, %error, "a connection could not be taken over"),
    };
    let _counted = Counted::one(app.metrics.http().connections());
    let told = stream.told();
    let connection = Rc::new(Connection {
        lane,
        caller: Caller::default(),
        told: Rc::clone(&told),
        busy: Cell::new(false),
        served: Cell::new(0),
    });
    let service = {
        let connection = Rc::clone(&connection);
        service_fn(move |request| serve(Rc::clone(&connection), request))
    };
    // Headers are bounded by the default of 100, which needs no allocation. Answers are not held back for those of
    // requests that are already here: the next one may wait a minute for its run. The timeout of heads is ours, see
    // IDLE: hyper's costs a timer for each request.
    let serving = http1::Builder::new()
        .half_close(false)
        .max_buf_size(BUFFER_BYTES)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let mut idle = pin!(sleep(IDLE));
    let mut drain = app.state.drain_begun();
    let mut drain = pin!(async move { drain.wait_for(|begun| *begun).await.is_ok() });
    let mut leaving = false;
    let mut seen = (0, 0);
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = serving.as_mut().poll(cx) {
                return Poll::Ready(ended.err().map(|error| error.to_string()));
            }
            if !leaving && drain.as_mut().poll(cx).is_ready() {
                // Ends it at once where it is between two requests, and otherwise after the answer.
                leaving = true;
                serving.as_mut().graceful_shutdown();
                continue;
            }
            if idle.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = (connection.served.get(), told.writes.get());
            if !connection.busy.get() && now == seen {
                return Poll::Ready(Some("nothing moved for too long".to_owned()));
            }
            seen = now;
            idle.as_mut().reset(Instant::now() + IDLE);
        }
    });
    if let Some(error) = ended.await {
        tracing::debug!(peer, error, "a connection ended");
    }
}

/// Counts one as long as it lives.
pub(super) struct Counted(IntGauge);

impl Counted {
    pub(super) fn one(gauge: &IntGauge) -> Counted {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn serve(connection: Rc<Connection>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    connection.busy.set(true);
    let (parts, body) = request.into_parts();
    let (route, part) = Route::of(parts.uri.path());
    let answer = match dispatch(&connection, route, part, &parts, body).await {
        Ok(answer) => answer,
        Err(problem) => connection.refuse(&problem, route),
    };
    let bytes = answer.body().size_hint().exact().unwrap_or(0);
    connection.lane.app.metrics.http().answered(route as usize, answer.status().as_u16(), bytes);
    connection.busy.set(false);
    connection.served.set(connection.served.get().wrapping_add(1));
    Ok(answer)
}

/// What every request passes, and then its route. Only `exec` is made to be fast; the others are boxed so that their
/// state does not make each request's larger.
async fn dispatch(
    connection: &Rc<Connection>,
    route: Route,
    part: &str,
    parts: &Parts,
    body: Incoming,
) -> Result<Answer, Problem> {
    let unread = |problem| {
        connection.leave_unread(&body);
        problem
    };
    if route == Route::Other {
        return Err(unread(Problem::new(
            ProblemCode::NotFound,
            "there is nothing at this path: see /openapi.json",
        )));
    }
    if !route.allows(&parts.method) {
        let detail = format!("this path does not have that method: use {}", route.methods());
        return Err(unread(Problem::new(ProblemCode::MethodNotAllowed, detail)));
    }
    if !route.is_for_tenants() {
        connection.leave_unread(&body);
        return match route {
            Route::Page => Box::pin(page::show(connection, parts)).await,
            Route::Asset => Ok(page::asset(part, &parts.headers)),
            Route::OpenApi => Ok(openapi::answer(&parts.headers)),
            _ => state::open(&connection.lane, route),
        };
    }
    if route == Route::Exec && body::announces_more(&parts.headers, BODY_MAX_BYTES) {
        return Err(unread(exec::too_large()));
    }
    if route == Route::Exec {
        query::none(parts.uri.query()).map_err(&unread)?;
        // Who calls is asked there, when the form of the request has been looked at.
        return exec::exec(connection, parts, body).await;
    }
    let tenant = connection.tenant(parts).map_err(&unread)?;
    let lane = &connection.lane;
    match route {
        Route::Upload => {
            query::none(parts.uri.query()).map_err(&unread)?;
            return Box::pin(modules::upload(connection, &tenant, parts, body)).await;
        }
        _ => connection.leave_unread(&body),
    }
    let query = parts.uri.query();
    match route {
        Route::Run => Box::pin(runs::run(lane, &tenant, part, query)).await,
        Route::Runs => Box::pin(runs::list(lane, &tenant, query)).await,
        Route::Cancel => Box::pin(runs::cancel(lane, &tenant, part, query)).await,
        Route::Module => Box::pin(modules::show_one(lane, &tenant, part, query)).await,
        Route::Events => events::follow(lane, tenant, parts),
        Route::Policy => state::policy(lane, &tenant, query),
        _ => Err(Problem::new(ProblemCode::NotFound, "there is nothing at this path")),
    }
}

impl Connection {
    /// Who calls.
    pub(super) fn tenant(&self, parts: &Parts) -> Result<Arc<str>, Problem> {
        self.caller.tenant(&self.lane.app.settings.now(), &parts.method, &parts.headers)
    }

    /// A body that is not going to be read: should that end the connection, its rest is taken in first.
    fn leave_unread(&self, body: &Incoming) {
        if !body.is_end_stream() {
            self.told.linger.set(true);
        }
    }

    /// Reads a body, or says why not.
    pub(super) async fn read(
        &self,
        body: Incoming,
        max: usize,
        patience: Duration,
        too_large: impl FnOnce() -> Problem,
    ) -> Result<bytes::Bytes, Problem> {
        match body::read(body, max, patience).await {
            Ok(bytes) => {
                self.lane.app.metrics.http().read(bytes.len());
                Ok(bytes)
            }
            Err(body::Unread::TooLarge) => Err(too_large()),
            Err(body::Unread::Slow) => {
                let detail =
                    format!("the body did not arrive within {} s: send it faster", patience.as_secs());
                Err(Problem::new(ProblemCode::Timeout, detail))
            }
            Err(body::Unread::Broken) => {
                let mut problem = Problem::new(
                    ProblemCode::MalformedJson,
                    "the body ended early or is not framed as HTTP/1.1 says: send it again, whole",
                );
                problem.status = StatusCode::BAD_REQUEST.as_u16();
                Err(problem)
            }
        }
    }

    fn refuse(&self, problem: &Problem, route: Route) -> Answer {
        if problem.status >= 500 && problem.code == ProblemCode::Internal {
            tracing::error!(route = crate::metrics::ROUTES[route as usize], %problem, "a request failed");
        }
        let answer = answer::problem(problem, route);
        match problem.code {
            // The rest of the body is still on its way.
            ProblemCode::PayloadTooLarge | ProblemCode::ModuleTooLarge | ProblemCode::Timeout => {
                self.told.linger.set(true);
                answer::last(answer)
            }
            _ => answer,
        }
    }
}
