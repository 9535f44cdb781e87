//! The HTTP client of the remote sources: no proxy, no cookies, no decompression, redirects within the site only,
//! bodies bounded and hashed as they arrive.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};

use super::Refusal;
use crate::answer::Miss;
use crate::verify::{Collector, Digest, Verified};

const MAX_REDIRECTS: usize = 3;

/// Makes the client. `None` where the machine lacks what TLS needs; the source then says so when asked, since a
/// gateway that cannot be used is no reason for the service not to start. `timeout`: for one module.
pub(super) fn build(timeout: Duration) -> Option<Client> {
    // Refused when the process has a provider already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .no_proxy()
        // What is compared with a digest is what was sent.
        .no_gzip()
        .no_deflate()
        // A source that accepts no connection for so long is at fault itself, whatever is asked of it.
        .connect_timeout(timeout / 2)
        .redirect(Policy::custom(follow))
        .pool_max_idle_per_host(4)
        .user_agent(concat!("void-wasm/", env!("CARGO_PKG_VERSION")))
        .build();
    client.inspect_err(|error| tracing::error!(%error, "no HTTP client for module sources")).ok()
}

/// A redirect may lead to the same host or one below it (`ipfs.example` → `<cid>.ipfs.example`), and from http to
/// https. Anything else would let a gateway send this machine to addresses that its operator never named.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    let within = attempt.previous().first().is_some_and(|first| within_site(first, attempt.url()));
    if within { attempt.follow() } else { attempt.stop() }
}

fn within_site(first: &Url, next: &Url) -> bool {
    let (Some(home), Some(host)) = (first.host_str(), next.host_str()) else { return false };
    let below = first.domain().is_some() && host.strip_suffix(home).is_some_and(|rest| rest.ends_with('.'));
    let scheme = match (first.scheme(), next.scheme()) {
        (one, other) if one == other => first.port_or_known_default() == next.port_or_known_default(),
        ("http", "https") => next.port_or_known_default() == Some(443),
        _ => false,
    };
    scheme && (host == home || below)
}

/// Sends a request and takes a 200. What other statuses mean is the same for all sources; `absent` are those by
/// which this one says "I do not have it".
pub(super) async fn send(request: RequestBuilder, absent: &[u16]) -> Result<Response, Refusal> {
    let response = request.send().await.map_err(|error| broken(&error))?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let said = format!("answered {}", status.as_u16());
    let pause = retry_after(&response);
    let miss = match status.as_u16() {
        status if absent.contains(&status) => Miss::Absent(said),
        300..=399 => Miss::Failed(format!("{said}, a redirect out of its site")),
        // Gateways answer so when nobody gives them the content in time.
        408 | 504 | 524 => Miss::Silent(said),
        _ => Miss::Failed(said),
    };
    Err(Refusal { miss, status: Some(status.as_u16()), pause })
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn broken(error: &reqwest::Error) -> Refusal {
    let said = if error.is_redirect() {
        "redirects without end"
    } else if error.is_connect() {
        "cannot be reached"
    } else if error.is_timeout() {
        return Miss::Silent("did not answer in time".to_owned()).into();
    } else {
        "broke off"
    };
    Miss::Failed(said.to_owned()).into()
}

/// Reads a body of at most `cap` bytes that is to have the digest `want`.
pub(super) async fn verified(mut response: Response, cap: u64, want: &Digest) -> Result<Verified, Refusal> {
    let page = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/html"));
    let mut body = Collector::new(cap, response.content_length())?;
    while let Some(piece) = response.chunk().await.map_err(|error| broken(&error))? {
        body.push(&piece)?;
    }
    let lie = if page { "delivered a web page" } else { "delivered other bytes" };
    body.finish(want).ok_or_else(|| Miss::Lied(lie.to_owned()).into())
}

/// Reads a body of at most `cap` bytes that is made of blocks to be verified one by one.
pub(super) async fn unverified(mut response: Response, cap: u64) -> Result<Bytes, Refusal> {
    if response.content_length().is_some_and(|length| length > cap) {
        return Err(crate::verify::too_large(cap).into());
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| broken(&error))? {
        if body.len() as u64 + piece.len() as u64 > cap {
            return Err(crate::verify::too_large(cap).into());
        }
        body.extend_from_slice(&piece);
    }
    Ok(Bytes::from(body))
}

/// The refusal of a source without a client.
pub(super) fn no_client() -> Refusal {
    Miss::Failed("cannot be asked: this machine has no usable TLS certificates".to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_within_the_site() {
        let within =
            |first: &str, next: &str| within_site(&Url::parse(first).unwrap(), &Url::parse(next).unwrap());
        assert!(within("https://ipfs.example/ipfs/b", "https://b.ipfs.example/"));
        assert!(within("http://ipfs.example/", "https://ipfs.example/"));
        assert!(within("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/b"));
        for (first, next) in [
            ("https://ipfs.example/", "http://ipfs.example/"),
            ("https://ipfs.example/", "https://evilipfs.example/"),
            ("https://ipfs.example/", "https://ipfs.example:8443/"),
            ("https://ipfs.example/", "https://169.254.169.254/"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:22/"),
            ("http://0.0.1/", "http://127.0.0.1/"),
        ] {
            assert!(!within(first, next), "{first} {next}");
        }
    }
}
