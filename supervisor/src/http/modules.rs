//! `/v1/modules`: taking a module in, and saying what one is. The bytes are opaque here: a compiler process reads them.

use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use tokio::time::timeout;
use void_api::{CidText, ModuleInfo, Problem, ProblemCode, Target};
use void_module::{ResolveError, UploadError};

use super::answer::{self, Answer};
use super::body;
use super::connection::Connection;
use super::query::none;
use crate::compile::Turns;
use crate::describe;
use crate::lane::Lane;

/// Modules that may be on their way in at once: each may take `FNPM_MAX_FILE_SIZE` of memory. A tenant that sends slowly
/// leaves two for others.
static TURNS: LazyLock<Arc<Turns>> = LazyLock::new(|| Turns::new(8, 6));
/// How long an upload waits for its turn.
const TURN: Duration = Duration::from_secs(30);
/// How long a body may take: this, and a second for each of so many bytes.
const PATIENCE: Duration = Duration::from_secs(30);
const BYTES_A_SECOND: u64 = 1 << 20;

/// `PUT /v1/modules`
pub(super) async fn upload(
    connection: &Rc<Connection>,
    tenant: &Arc<str>,
    parts: &Parts,
    body: Incoming,
) -> Result<Answer, Problem> {
    let lane = &connection.lane;
    let allowed = lane.app.settings.peek().settings.supply.max_file_size;
    let max = usize::try_from(allowed).unwrap_or(usize::MAX);
    let too_large = || {
        let detail = format!(
            "the module is larger than {allowed} bytes: make it smaller, or raise FNPM_MAX_FILE_SIZE"
        );
        Problem::new(ProblemCode::ModuleTooLarge, detail)
    };
    if body::announces_more(&parts.headers, max) {
        return Err(too_large());
    }
    let Ok(_turn) = timeout(TURN, TURNS.take(tenant)).await else {
        let detail = "too many modules are being uploaded at once: try again in a moment";
        return Err(Problem::new(ProblemCode::Unavailable, detail));
    };
    let patience = PATIENCE + Duration::from_secs(allowed / BYTES_A_SECOND);
    let bytes = connection.read(body, max, patience, too_large).await?;
    let code = describe::describe(lane, tenant, None, &bytes).await?;
    let stored = lane.app.supply.upload(tenant, bytes).await.map_err(not_kept)?;
    let info = describe::info(&code, stored.sha256, stored.size);
    lane.app.preparations.add(tenant, stored.sha256);
    let mut answer = show(StatusCode::CREATED, &info);
    answer::locate(answer.headers_mut(), format!("/v1/modules/{}", info.cid));
    Ok(answer)
}

/// `GET /v1/modules/{cid}`
pub(super) async fn show_one(
    lane: &Rc<Lane>,
    tenant: &Arc<str>,
    cid: &str,
    query: Option<&str>,
) -> Result<Answer, Problem> {
    none(query)?;
    let cid: CidText = cid.parse().map_err(|error| {
        Problem::new(ProblemCode::ModuleNotFound, format!("there is no such module: {error}"))
    })?;
    let module =
        lane.app.supply.resolve(tenant, &Target::Cid(cid)).await.map_err(|error| not_there(&error))?;
    let code = describe::describe(lane, tenant, Some(module.sha256), &module.bytes).await?;
    Ok(show(StatusCode::OK, &describe::info(&code, module.sha256, module.bytes.len() as u64)))
}

fn show(status: StatusCode, info: &ModuleInfo) -> Answer {
    // Strings and numbers under fixed keys: this cannot fail.
    answer::json(status, serde_json::to_vec(info).unwrap_or_default())
}

fn not_kept(error: UploadError) -> Problem {
    let code = match error {
        UploadError::TooLarge { .. } | UploadError::Quota { .. } => ProblemCode::ModuleTooLarge,
        UploadError::Io(_) => ProblemCode::Unavailable,
        UploadError::Internal => ProblemCode::Internal,
    };
    Problem::new(code, error.to_string())
}

/// The codes are called as the reasons of runs that want the module.
fn not_there(error: &ResolveError) -> Problem {
    let code = match error {
        ResolveError::NotFound { .. } => ProblemCode::ModuleNotFound,
        ResolveError::Unverified { .. } | ResolveError::Ambiguous { .. } => ProblemCode::ModuleUnverified,
        ResolveError::Invalid { .. } => ProblemCode::ModuleInvalid,
        ResolveError::Internal { .. } => ProblemCode::Internal,
    };
    Problem::new(code, error.to_string())
}
