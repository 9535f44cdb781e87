//! HTTP with the service: requests over one kept connection, answers as text of the API or a refusal.
//!
//! A request is sent once. Whether it is safe to send again only the command knows.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use void_api::{Problem, ProblemCode};

use crate::address::Address;
use crate::failure::Failure;
use crate::output::note;
use crate::stream;

/// How long the service may take to answer what it is not asked to wait for.
pub(crate) const PROMPT: Duration = Duration::from_secs(30);
/// The longest answer that is read: far above a page of a thousand records.
const ANSWER_MAX_BYTES: usize = 256 << 20;

/// The service, as this command sees it.
pub(crate) struct Client {
    address: Address,
    authorization: Option<HeaderValue>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What is sent.
pub(crate) struct Call<'a> {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: &'a str,
    /// The body's media type.
    pub(crate) media_type: Option<&'static str>,
    /// The body.
    pub(crate) body: Bytes,
    /// How long the answer may take.
    pub(crate) patience: Duration,
}

impl<'a> Call<'a> {
    /// A read.
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, media_type: None, body: Bytes::new(), patience: PROMPT }
    }

    /// A request with a body; `None` for one without.
    pub(crate) fn with_body(method: Method, path: &'a str, body: Option<(&'static str, Bytes)>) -> Self {
        let (media_type, body) = body.unzip();
        Self { method, path, media_type, body: body.unwrap_or_default(), patience: PROMPT }
    }
}

/// An answer that is no refusal: its text, and what it says.
pub(crate) struct Answer {
    text: String,
    address: String,
}

impl Answer {
    /// The body as it came.
    pub(crate) fn text(&self) -> &str {
        self.text.trim_end()
    }

    /// The body as a type of the API.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.text).map_err(|error| {
            Failure::Unreachable(format!(
                "{} answers what this command does not understand ({error}): check that it is a void-wasm service of this version",
                self.address
            ))
        })
    }
}

impl Client {
    /// Prepares a client; connects at the first call.
    pub(crate) fn new(server: &str, token: Option<&str>) -> Result<Self, Failure> {
        let address = Address::parse(server)?;
        let authorization = match token.filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                    Failure::Usage("--token: a token holds visible ASCII characters only".to_owned())
                })?;
                value.set_sensitive(true);
                if address.is_readable_on_the_way() {
                    note(&format!("void-wasm: the token can be read on its way to {address}: use https://"));
                }
                Some(value)
            }
        };
        Ok(Self { address, authorization, connection: None })
    }

    /// The same service and token over a connection of its own.
    pub(crate) fn another(&self) -> Self {
        Self { address: self.address.clone(), authorization: self.authorization.clone(), connection: None }
    }

    /// Sends one request and reads its answer.
    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Answer, Failure> {
        let patience = call.patience;
        let path = call.path.to_owned();
        let exchange = async {
            let response = self.send(call, None).await?;
            self.read(response).await
        };
        let outcome = tokio::time::timeout(patience, exchange).await.unwrap_or_else(|_| {
            Err(Failure::Unreachable(format!(
                "{path} was not answered within {} s: try again",
                patience.as_secs()
            )))
        });
        if matches!(outcome, Err(Failure::Unreachable(_))) {
            self.connection = None;
        }
        outcome
    }

    /// Opens a stream of events after the one with this id; the answer is unread, if it is no refusal.
    pub(crate) async fn events(
        &mut self,
        call: Call<'_>,
        after: Option<&str>,
    ) -> Result<Response<Incoming>, Failure> {
        let response = self.send(call, after).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        self.read(response).await?;
        Err(self.broken(&"an empty answer"))
    }

    async fn send(&mut self, call: Call<'_>, after: Option<&str>) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(self.address.path(call.path))
            .header(HOST, self.address.host_header())
            .header(ACCEPT, "application/json, application/problem+json, text/event-stream");
        if let Some(media_type) = call.media_type {
            request = request.header(CONTENT_TYPE, media_type);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let request = request.body(Full::new(call.body)).map_err(|error| {
            Failure::Usage(format!("{}: not a request ({error})", void_api::clip(call.path)))
        })?;
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await.map_err(|error| self.broken(&error))?;
        self.connection = Some(connection);
        Ok(response)
    }

    /// The kept connection if the service has not closed it, else a new one.
    async fn connection(&mut self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        if let Some(mut kept) = self.connection.take()
            && kept.ready().await.is_ok()
        {
            return Ok(kept);
        }
        let stream = stream::open(&self.address).await?;
        let (sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends with the connection; what went wrong is told to the request that meets it.
        tokio::spawn(driver);
        Ok(sender)
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Answer, Failure> {
        let status = response.status();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|seconds| seconds.parse().ok());
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|error| self.broken(&error))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(Answer { text, address: self.address.to_string() });
        }
        let problem = serde_json::from_str(&text).ok().or_else(|| of_a_proxy(status));
        Err(problem.map_or_else(
            || {
                let what_to_do = match status.as_u16() {
                    502 | 504 => "the service behind it does not answer: start it, or check --server",
                    _ => "check --server",
                };
                Failure::Unreachable(format!(
                    "{} answers with status {status} and not as a void-wasm service: {what_to_do}",
                    self.address
                ))
            },
            |problem| Failure::from_problem(problem, retry_after),
        ))
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::Unreachable(format!(
            "{} broke off before its answer was complete ({error}): try again",
            self.address
        ))
    }
}

/// A refusal by what stands before the service, which does not speak its words.
fn of_a_proxy(status: StatusCode) -> Option<Problem> {
    let code = match status.as_u16() {
        401 | 403 => ProblemCode::Unauthorized,
        429 | 503 => ProblemCode::Unavailable,
        _ => return None,
    };
    Some(Problem {
        status: status.as_u16(),
        ..Problem::new(code, format!("what answered is not the service: {status}"))
    })
}

/// Text as one segment of a path, or as a value in a query.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn no_text_leaves_its_place_in_a_url() {
        assert_eq!(encoded("a/../b?c=d&e#f ü"), "a%2F..%2Fb%3Fc%3Dd%26e%23f%20%C3%BC");
        assert_eq!(encoded("bafy-_.~9"), "bafy-_.~9");
    }
}
