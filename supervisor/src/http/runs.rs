//! `/v1/runs`: looking a run up, waiting for it, listing, cancelling.

use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use tokio::time::timeout;
use void_api::{Problem, ProblemCode, RunId, clip};
use void_store::{LIST_LIMIT, ListFilter, ReadError, RunPage};

use super::answer::{self, Answer};
use super::prefer;
use super::query::{Query, invalid, none};
use crate::lane::Lane;
use crate::run;

/// Runs on a page where the client does not say.
const PAGE: usize = 50;

/// `GET /v1/runs/{run_id}`
pub(super) async fn run(
    lane: &Rc<Lane>,
    tenant: &str,
    id: &str,
    query: Option<&str>,
) -> Result<Answer, Problem> {
    let query = Query::read(query, &["wait"], &[])?;
    let wait = query.parse("wait", "whole seconds, at most 60", prefer::seconds)?.unwrap_or(0);
    let id = parse_id(id)?;
    if wait > 0
        && let Some(live) = lane.app.runs.get(tenant, id)
    {
        let record = timeout(Duration::from_secs(u64::from(wait)), live.ended()).await;
        return Ok(show(record.unwrap_or_else(|_| live.record_json())));
    }
    run::record(&lane.app, tenant, id).await?.map(show).ok_or_else(|| unknown(id))
}

/// `POST /v1/runs/{run_id}/cancel`
pub(super) async fn cancel(
    lane: &Rc<Lane>,
    tenant: &str,
    id: &str,
    query: Option<&str>,
) -> Result<Answer, Problem> {
    none(query)?;
    run::cancel(&lane.app, tenant, parse_id(id)?).await.map(show)
}

/// `GET /v1/runs`
pub(super) async fn list(lane: &Rc<Lane>, tenant: &str, query: Option<&str>) -> Result<Answer, Problem> {
    let filter = filter(&Query::read(query, &["status", "mode", "limit", "cursor"], &["label"])?)?;
    let page = lane.app.store.list(tenant, filter).await.map_err(unreadable)?;
    Ok(answer::not_kept(answer::json(StatusCode::OK, render(&page))))
}

fn show(record: Bytes) -> Answer {
    answer::not_kept(answer::json(StatusCode::OK, record))
}

/// What is no name of a run names none.
fn parse_id(id: &str) -> Result<RunId, Problem> {
    id.parse().map_err(|error| {
        Problem::new(ProblemCode::RunNotFound, format!("there is no run \"{}\": {error}", clip(id)))
    })
}

fn unknown(id: RunId) -> Problem {
    Problem::new(
        ProblemCode::RunNotFound,
        "there is no such run: it was never accepted, is another's, or was deleted by age",
    )
    .about(id)
}

/// What a failed read means to a client.
pub(super) fn unreadable(error: ReadError) -> Problem {
    match error {
        ReadError::Cursor => invalid(error),
        ReadError::Closed => {
            Problem::new(ProblemCode::Draining, "the service is stopping: ask again in a moment")
        }
        other => {
            tracing::error!(error = %other, "the store could not be read");
            Problem::new(ProblemCode::Unavailable, "the records cannot be read now: try again in a moment")
        }
    }
}

fn filter(query: &Query<'_>) -> Result<ListFilter, Problem> {
    let status = "accepted, running, finished, error, cancelled or frozen";
    let limit = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|limit| digits && (1..=LIST_LIMIT).contains(limit))
    };
    let labels = query.all("label").map(|label| match label.split_once(':') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(invalid(format_args!("the parameter label is \"{}\"; give key:value", clip(label)))),
    });
    let labels = labels.collect::<Result<Vec<_>, _>>()?;
    if labels.len() > void_api::limits::LABELS_MAX {
        return Err(invalid(format_args!(
            "label stands more than {} times; give fewer",
            void_api::limits::LABELS_MAX
        )));
    }
    Ok(ListFilter {
        status: query.parse("status", status, |text| text.parse().ok())?,
        mode: query.parse("mode", "live, canary, dry-run or frozen", |text| text.parse().ok())?,
        labels,
        limit: query.parse("limit", &format!("a number from 1 to {LIST_LIMIT}"), limit)?.unwrap_or(PAGE),
        cursor: query.get("cursor").map(str::to_owned),
    })
}

/// The page as JSON. Each record is stored as the JSON that it is shown as, so nothing is parsed here.
fn render(page: &RunPage) -> Bytes {
    let bytes = page.runs.iter().map(|run| run.json.len() + 1).sum::<usize>();
    let mut json = BytesMut::with_capacity(bytes + 64);
    json.put_slice(b"{\"runs\":[");
    for (index, run) in page.runs.iter().enumerate() {
        if index > 0 {
            json.put_u8(b',');
        }
        json.put_slice(&run.json);
    }
    json.put_u8(b']');
    if let Some(cursor) = &page.cursor {
        // A cursor is the name of a run: letters, digits and "_".
        json.put_slice(b",\"next_cursor\":\"");
        json.put_slice(cursor.as_bytes());
        json.put_u8(b'"');
    }
    json.put_u8(b'}');
    json.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use void_api::{Mode, Status};

    fn read(query: &str) -> Result<ListFilter, Problem> {
        filter(&Query::read(Some(query), &["status", "mode", "limit", "cursor"], &["label"])?)
    }

    #[test]
    fn filters_are_read() {
        let filter = read("status=error&mode=dry-run&label=a:b:c&label=d:&limit=500&cursor=x").unwrap();
        assert_eq!(
            (filter.status, filter.mode, filter.limit),
            (Some(Status::Error), Some(Mode::DryRun), 500)
        );
        assert_eq!(filter.labels, [("a".to_owned(), "b:c".to_owned()), ("d".to_owned(), String::new())]);
        assert_eq!(read("").unwrap().limit, PAGE);
        for bad in [
            "status=done",
            "mode=",
            "limit=0",
            "limit=501",
            "limit=+1",
            "limit=x",
            "label=a",
            "label=:b",
            "state=1",
        ] {
            assert_eq!(read(bad).unwrap_err().code, ProblemCode::InvalidQuery, "{bad}");
        }
    }

    #[test]
    fn pages_are_json() {
        let run = |number| void_store::StoredRun {
            run_id: RunId::from_u128(number),
            status: Status::Finished,
            mode: Mode::Live,
            json: Bytes::from(format!("{{\"n\":{number}}}")),
        };
        assert_eq!(&render(&RunPage::default())[..], b"{\"runs\":[]}");
        let page = RunPage { runs: vec![run(1), run(2)], cursor: Some("wasm_2".to_owned()) };
        assert_eq!(&render(&page)[..], b"{\"runs\":[{\"n\":1},{\"n\":2}],\"next_cursor\":\"wasm_2\"}");
    }
}
