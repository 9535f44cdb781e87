//! A small blocking HTTP/1.1 client over one connection, which lets a test also send what no proper client would.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No answer takes longer: the longest wait that the service offers is 60 s.
const GIVE_UP: Duration = Duration::from_secs(90);

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body as it came, without the transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("status {}, the body is not JSON ({e}): {}", self.status, self.text()))
    }

    /// Checks that this is an error as RFC 9457 wants it, with all the fields promised, in one sentence, and returns
    /// its `code`.
    #[track_caller]
    pub fn problem(&self) -> String {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/problem+json"), "not a problem: {kind}: {}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.len() > 8 && !detail.contains('\n'), "one sentence is wanted: {problem}");
        assert_eq!(problem["error"], problem["detail"], "`error` is the same sentence: {problem}");
        assert!(
            !detail.contains("panicked") && !detail.contains("/home/") && !detail.contains(".rs:"),
            "{detail}"
        );
        let code = problem["code"].as_str().unwrap_or_else(|| panic!("no code: {problem}"));
        assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "not snake_case: {code}");
        code.to_owned()
    }
}

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    /// For each answer to come: whether it is one to HEAD, which has no body whatever its length says.
    to_head: VecDeque<bool>,
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GIVE_UP))?;
        stream.set_write_timeout(Some(GIVE_UP))?;
        Ok(Self { stream: BufReader::new(stream), to_head: VecDeque::new() })
    }

    /// Sends one request and reads its answer. `Host` and `Content-Length` are added.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        self.send_request(method, path, headers, body)?;
        self.read_response()
    }

    /// Sends one request and leaves its answer for [`Client::read_response`].
    pub fn send_request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        self.to_head.push_back(method == "HEAD");
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        // A server may refuse a large body by its head and close; what counts is then its answer, not our write.
        match self.send_raw(&bytes) {
            Err(e) if body.len() > 65_536 && is_hang_up(&e) => Ok(()),
            other => other,
        }
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Tells the server that no more will be sent, so that it does not wait for the rest of something.
    pub fn end_of_input(&mut self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    /// Reads the next answer.
    pub fn read_response(&mut self) -> io::Result<Response> {
        let mut status = 0;
        let mut headers = Vec::new();
        // Interim answers (100 Continue) are not the answer.
        while status < 200 {
            let line = self.read_line()?;
            status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad(&line))?;
            headers.clear();
            loop {
                let line = self.read_line()?;
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
                headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if self.to_head.pop_front().unwrap_or(false) {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            response.body = self.read_chunks()?;
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(|_| bad(length))?;
            response.body.resize(length, 0);
            self.stream.read_exact(&mut response.body)?;
        }
        Ok(response)
    }

    /// Waits until the server has closed this connection. False when it sent something instead.
    pub fn is_closed_by_server(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(e) => is_hang_up(&e),
        }
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| bad(&line))?;
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(&mut body[start..])?;
            // The line end behind the chunk, or the empty trailer behind the last one.
            self.read_line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::Client;

    /// A client of a peer that says `answer` and closes.
    fn client_hearing(answer: &'static [u8]) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(answer).unwrap();
        });
        Client::connect(address).unwrap()
    }

    #[test]
    fn bodies_are_read_by_length_and_by_chunks() {
        let mut client = client_hearing(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello\
              HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        );
        client.send_request("GET", "/", &[], &[]).unwrap();
        let first = client.read_response().unwrap();
        assert_eq!((first.status, first.text().as_str(), first.header("x-a")), (201, "hello", Some("b")));
        assert_eq!(client.read_response().unwrap().text(), "abcde");
        assert!(client.is_closed_by_server());
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut client = client_hearing(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let response = client.request("HEAD", "/", &[], &[]).unwrap();
        assert_eq!((response.status, response.body.len()), (200, 0));
    }
}
