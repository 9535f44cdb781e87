//! The HTTP client of the remote sources: no proxy, no cookies, no decompression, redirects within the site only,
//! bodies bounded and hashed as they arrive.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
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
        // Followed by hand, within the site: see `send`.
        .redirect(Policy::none())
        .pool_max_idle_per_host(4)
        .user_agent(concat!("void-wasm/", env!("CARGO_PKG_VERSION")))
        .build();
    client.inspect_err(|error| tracing::error!(%error, "no HTTP client for module sources")).ok()
}

/// A redirect may lead to the same host or one below it (`ipfs.example` → `<cid>.ipfs.example`), and from http to
/// https. Anything else would let a gateway send this machine to addresses that its operator never named.
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

/// Sends a request, follows redirects within the site, and takes a 200. What other statuses mean is the same for all
/// sources; `absent` are those by which this one says "I do not have it".
pub(super) async fn send(request: RequestBuilder, absent: &[u16]) -> Result<Response, Refusal> {
    let (client, request) = request.build_split();
    let mut request = request.map_err(|error| broken(&error))?;
    let home = request.url().clone();
    let mut redirects = 0;
    let response = loop {
        // Without a body there is always a copy.
        let copy = request.try_clone();
        let sent = client.execute(request).await;
        let response = match sent {
            Ok(response) => response,
            // It was there, and where it leads to depends on what was asked for.
            Err(error) if redirects > 0 && error.is_connect() => {
                return Err(Miss::Failed("redirects to where nobody is".to_owned()).into());
            }
            Err(error) => return Err(broken(&error)),
        };
        let Some(next) = target(&response).filter(|next| within_site(&home, next)) else { break response };
        redirects += 1;
        let Some(mut again) = copy.filter(|_| redirects <= MAX_REDIRECTS) else {
            return Err(Miss::Failed("redirects without end".to_owned()).into());
        };
        *again.url_mut() = next;
        request = again;
    };
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let said = format!("answered {}", status.as_u16());
    let miss = match status.as_u16() {
        status if absent.contains(&status) => Miss::Absent(said),
        300..=399 => Miss::Failed(format!("{said}, a redirect out of its site")),
        // Gateways answer so when nobody gives them the content in time.
        408 | 504 | 524 => Miss::Silent(said),
        // By their definition words about the source, whatever is asked of it. Any other may be about the content.
        429 | 503 => Miss::Down(said),
        _ => Miss::Failed(said),
    };
    Err(Refusal { miss, status: Some(status.as_u16()), pause: retry_after(&response, SystemTime::now()) })
}

/// Where a redirect leads.
fn target(response: &Response) -> Option<Url> {
    let follow = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let to = response.headers().get(LOCATION).filter(|_| follow)?.to_str().ok()?;
    response.url().join(to).ok()
}

fn retry_after(response: &Response, now: SystemTime) -> Option<Duration> {
    pause(response.headers().get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // One that is over asks for nothing.
    Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default())
}

fn broken(error: &reqwest::Error) -> Refusal {
    if error.is_connect() {
        Miss::Down("cannot be reached".to_owned()).into()
    } else if error.is_timeout() {
        Miss::Silent("did not answer in time".to_owned()).into()
    } else {
        Miss::Failed("broke off".to_owned()).into()
    }
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
    Miss::Down("cannot be asked: this machine has no usable TLS certificates".to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        // 1994-11-06 08:49:37 UTC, the example of RFC 9110, 5.6.7, in its three forms.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        for text in [
            "30",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(pause(text, now), Some(Duration::from_secs(30)), "{text}");
        }
        let over = now + Duration::from_secs(60);
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:37 GMT", over), Some(Duration::ZERO));
        for text in ["", "-1", "soon", "1.5"] {
            assert_eq!(pause(text, now), None, "{text}");
        }
    }

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
