//! Reading an answer: header fields, and the body as it comes, decompressed, up to its limit and no further.

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use void_ipc::message::{Header, Refusal, Reply};
use void_policy::judge::FetchPermit;
use void_policy::secrets::Redactor;

use super::connect::why;
use super::{Failure, Performed};
use crate::gateway::Answer;
use crate::metrics::Metrics;

/// Bytes of all header fields of an answer: they go to the guest in one message.
const HEADERS_MAX_BYTES: usize = 64 * 1024;

/// Fields that speak of the connection, which the guest does not see.
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads what is left of an answer.
pub(super) async fn read(
    response: Response,
    permit: &FetchPermit,
    redactor: &Redactor,
    metrics: &Metrics,
) -> Performed {
    let status = response.status().as_u16();
    if !redactor.is_empty() {
        // What was decoded is not listed any more.
        let left =
            response.headers().get_all(CONTENT_ENCODING).iter().find(|encoding| *encoding != "identity");
        if let Some(encoding) = left {
            return Err(permit.secret_unsearchable(&String::from_utf8_lossy(encoding.as_bytes())).into());
        }
    }
    let mut headers = fields(response.headers(), redactor)?;
    let body = whole(response, permit.max_bytes() as usize, metrics).await?;
    let length = body.len();
    let body = if redactor.is_empty() { body } else { redactor.clean(body) };
    if body.len() != length {
        headers.retain(|header| header.name != CONTENT_LENGTH.as_str());
    }
    // The limit is far below what a number of the wire holds.
    let body_bytes = u32::try_from(body.len()).map_err(|_| Failure::Failed(Refusal::TooLarge))?;
    Ok(Answer::with_body(Reply::Fetched { status, headers, body_bytes }, Bytes::from(body)))
}

fn fields(headers: &HeaderMap, redactor: &Redactor) -> Result<Vec<Header>, Failure> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > HEADERS_MAX_BYTES {
        return Err(Failure::Failed(Refusal::TooLarge));
    }
    let seen = headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.as_str()));
    Ok(seen
        .map(|(name, value)| {
            let value = value.as_bytes().to_vec();
            let value = if redactor.is_empty() { value } else { redactor.clean(value) };
            Header { name: name.as_str().to_owned(), value }
        })
        .collect())
}

/// The whole body. Room is made for what has come, never for what is announced.
async fn whole(mut response: Response, most: usize, metrics: &Metrics) -> Result<Vec<u8>, Failure> {
    let too_large = || Failure::Failed(Refusal::TooLarge);
    if response.content_length().is_some_and(|announced| announced > most as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| Failure::Failed(why(&error)))? {
        metrics.fetches().received(piece.len());
        if piece.len() > most - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
