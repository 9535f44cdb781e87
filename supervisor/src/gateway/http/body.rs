//! Reading an answer: header fields, and the body as it comes, decompressed, up to its limit and no further.

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use void_ipc::message::{Header, Refusal, Reply};
use void_policy::judge::FetchPermit;
use void_policy::secrets::Redactor;

use super::connect::why;
use super::encoding::{Decoder, Encoding, Spoiled, most_encoded, undone_in_transfer};
use super::{Failure, Performed};
use crate::gateway::Answer;
use crate::metrics::Metrics;

/// Fields of an answer.
pub(super) const HEADERS_MAX: usize = 1000;
/// Bytes of all of them: they go to the guest in one message.
const HEADERS_MAX_BYTES: usize = 64 * 1024;
/// Bytes of a body that is searched elsewhere than among other fetches.
const LARGE_BYTES: usize = 256 * 1024;

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
    // RFC 9110, 15: there are no others. A guest is told that it gets none of them.
    if status > 599 {
        return Err(Failure::Failed(Refusal::Unreachable));
    }
    if !undone_in_transfer(response.headers()) {
        return Err(Failure::Failed(Refusal::Unreachable));
    }
    let encoding = Encoding::of(response.headers());
    if let (Encoding::Other(words), false) = (&encoding, redactor.is_empty()) {
        return Err(permit.secret_unsearchable(&redactor.clean_text(words.as_bytes())).into());
    }
    let mut headers = fields(response.headers(), redactor)?;
    let whole = whole(response, &encoding, permit.max_bytes() as usize, metrics).await?;
    let length = whole.len();
    let body = if redactor.is_empty() { whole } else { clean(redactor, whole) };
    if matches!(encoding, Encoding::Gzip | Encoding::Deflate) {
        headers.retain(|header| {
            header.name != CONTENT_ENCODING.as_str() && header.name != CONTENT_LENGTH.as_str()
        });
    }
    if body.len() != length {
        headers.retain(|header| header.name != CONTENT_LENGTH.as_str());
    }
    // The limit is far below what a number of the wire holds.
    let body_bytes = u32::try_from(body.len()).map_err(|_| Failure::Failed(Refusal::TooLarge))?;
    Ok(Answer::with_body(Reply::Fetched { status, headers, body_bytes }, Bytes::from(body)))
}

/// Takes the secrets out of a body. A large one that is made for it takes a second and more, in which other fetches go on.
fn clean(redactor: &Redactor, body: Vec<u8>) -> Vec<u8> {
    if body.len() <= LARGE_BYTES {
        return redactor.clean(body);
    }
    tokio::task::block_in_place(|| redactor.clean(body))
}

fn fields(headers: &HeaderMap, redactor: &Redactor) -> Result<Vec<Header>, Failure> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > HEADERS_MAX_BYTES {
        return Err(Failure::Failed(Refusal::TooLarge));
    }
    // RFC 9110, 7.6.1: what `Connection` names is of the connection as well.
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(|word| String::from_utf8_lossy(word.trim_ascii()).to_ascii_lowercase())
        .collect();
    let of_the_connection =
        |name: &str| OF_THE_CONNECTION.contains(&name) || named.iter().any(|named| named == name);
    let seen = headers
        .iter()
        // A name is nothing to put stars into.
        .filter(|(name, _)| !of_the_connection(name.as_str()) && !redactor.finds(name.as_str().as_bytes()));
    Ok(seen
        .map(|(name, value)| {
            let value = value.as_bytes().to_vec();
            let value = if redactor.is_empty() { value } else { redactor.clean(value) };
            Header { name: name.as_str().to_owned(), value }
        })
        .collect())
}

/// The whole body, decoded. Room is made for what has come, never for what is announced.
async fn whole(
    mut response: Response,
    encoding: &Encoding,
    most: usize,
    metrics: &Metrics,
) -> Result<Vec<u8>, Failure> {
    let spoiled = |spoiled| match spoiled {
        Spoiled::TooLarge => Failure::Failed(Refusal::TooLarge),
        Spoiled::Broken => {
            tracing::debug!("a guest's request failed: the answer is not in the encoding that it names");
            Failure::Failed(Refusal::Unreachable)
        }
    };
    let decoded = matches!(encoding, Encoding::Gzip | Encoding::Deflate);
    let most_received = if decoded { most_encoded(most) } else { most };
    if response.content_length().is_some_and(|announced| announced > most_received as u64) {
        return Err(spoiled(Spoiled::TooLarge));
    }
    let mut decoder = Decoder::new(encoding, most);
    while let Some(piece) = response.chunk().await.map_err(|error| Failure::Failed(why(&error)))? {
        metrics.fetches().received(piece.len());
        decoder.take(&piece).map_err(spoiled)?;
    }
    decoder.finish().map_err(spoiled)
}
