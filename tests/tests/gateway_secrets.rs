//! An echo of the operator's secret, in every form in which a host may write it: the guest has none of them, and no record and
//! no log has one. Through real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test reports by panicking")]

use std::fmt::Write as _;
use std::io::Write;

use void_tests::{
    Asked, Request, Server, Stream, Upstream, code, denied_by, echo, fetch, fetching, gzip, reply,
};

const DENIED: i64 = -1;
const UNREACHABLE: i64 = -8;

/// Has what every form has a word of its own for.
const SECRET: &str = "Bearer S3cr3t+/<T0ken>&'\"\\=end";
/// The part behind the scheme, and what no text may hold in any case: a piece that no form changes.
const PIECE: &str = "s3cr3t";

fn secrets(lines: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(lines.as_bytes()).unwrap();
    file
}

/// Writes each character as `form` does.
fn each(text: &str, form: impl Fn(u8) -> String) -> String {
    text.bytes().map(form).collect()
}

/// How hosts write what they were sent.
fn written(secret: &str) -> Vec<(&'static str, String)> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let raw = |byte: u8| char::from(byte).to_string();
    let unless = |leave: &'static str, form: fn(u8) -> String| {
        move |byte: u8| if plain(byte) || leave.contains(raw(byte).as_str()) { raw(byte) } else { form(byte) }
    };
    let upper: fn(u8) -> String = |byte| format!("%{byte:02X}");
    let lower: fn(u8) -> String = |byte| format!("%{byte:02x}");
    let twice: fn(u8) -> String = |byte| format!("%25{byte:02X}");
    let decimal: fn(u8) -> String = |byte| format!("&#{byte:03};");
    let hex: fn(u8) -> String = |byte| format!("&#x{byte:X};");
    let json: fn(u8) -> String = |byte| format!("\\u{byte:04x}");
    let named: fn(u8) -> String = |byte| {
        match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&apos;",
            _ => return char::from(byte).to_string(),
        }
        .to_owned()
    };
    vec![
        ("raw", secret.to_owned()),
        ("part", secret.rsplit(' ').next().unwrap().to_owned()),
        ("upper case", secret.to_uppercase()),
        ("percent", each(secret, unless("", upper))),
        ("percent, lower case", each(secret, unless("", lower))),
        ("percent, as paths leave it", each(secret, unless("+/&'=", upper))),
        ("percent, as scripts leave it", each(secret, unless("'()*!~", upper))),
        ("percent, all of it", each(secret, lower)),
        ("percent, twice", each(secret, unless("", twice))),
        ("form", each(secret, unless("", upper)).replace("%20", "+")),
        ("html, named", each(secret, named)),
        ("html, decimal", each(secret, unless(" ", decimal))),
        ("html, hexadecimal", each(secret, unless(" ", hex))),
        ("html, twice", each(&each(secret, named), named)),
        ("json", serde_json::to_string(secret).unwrap()),
        ("json, slashes too", serde_json::to_string(secret).unwrap().replace('/', "\\/")),
        ("json, escaped", each(secret, unless(" ", json))),
        ("json, all of it", each(secret, json)),
        ("html in json", each(secret, unless(" ", decimal)).replace('&', "\\u0026")),
        ("html in json, named", each(secret, named).replace('&', "\\u0026")),
        ("json in html", each(serde_json::to_string(secret).unwrap().trim_matches('"'), named)),
        ("html in percent", each(&each(secret, named), unless("", upper))),
        ("html in percent, decimal", each(&each(secret, unless("", decimal)), unless("", upper))),
        ("percent in html", each(secret, unless("", upper)).replace('%', "&#37;")),
        ("percent in json", each(secret, unless("", upper)).replace('%', "\\u0025")),
        (
            "json in percent",
            each(serde_json::to_string(secret).unwrap().trim_matches('"'), unless("", upper)),
        ),
        ("html, without its end", each(secret, unless(" ", |byte| format!("&#{byte}")))),
        ("octal", each(secret, unless("", |byte| format!("\\{byte:03o}")))),
        ("json in json", serde_json::to_string(&serde_json::to_string(secret).unwrap()).unwrap()),
        (
            "mixed",
            secret.bytes().enumerate().fold(String::new(), |mut text, (at, byte)| {
                let forms = [upper, lower, decimal, hex, json, named];
                let _ = write!(text, "{}", forms[at % forms.len()](byte));
                text
            }),
        ),
    ]
}

/// A host that shows what it was sent, at `/body/<n>`, `/pieces/<n>`, `/header/<n>` and `/redirect/<n>` in the n-th way.
fn shows(asked: &Asked, to: &mut dyn Stream) -> std::io::Result<()> {
    let ways = written(asked.header("authorization").unwrap_or_default());
    let mut path = asked.target().split('/').skip(1);
    let how = path.next().unwrap_or_default();
    let Some((_, text)) = path.next().and_then(|number| ways.get(number.parse::<usize>().ok()?)) else {
        return echo(asked, to);
    };
    match how {
        "body" => reply(to, "200 OK", &[], format!("<{text}>").as_bytes()),
        "gzip" => reply(to, "200 OK", &["Content-Encoding: X-GZIP"], &gzip(format!("<{text}>").as_bytes())),
        "header" => reply(to, "200 OK", &[&format!("X-Echo: <{text}>")], b""),
        "redirect" => {
            let elsewhere = asked.header("x-elsewhere").unwrap_or_default();
            reply(to, "302 Found", &[&format!("Location: {elsewhere}?{text}")], b"")
        }
        // A byte in each piece.
        _ => {
            write!(to, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
            for byte in format!("<{text}>").bytes() {
                write!(to, "1\r\n{}\r\n", char::from(byte))?;
                to.flush()?;
            }
            write!(to, "0\r\n\r\n")
        }
    }
}

fn server(hosts: &[&Upstream], secrets: &tempfile::NamedTempFile) -> Server {
    let places: Vec<String> = hosts.iter().map(|host| host.place()).collect();
    fetching(&places.join(","))
        .env("WASM_HTTP_SECRETS_FILE", secrets.path().to_str().unwrap())
        .env("RUST_LOG", "debug")
        .start()
}

#[test]
fn no_form_of_an_echo_comes_through() {
    let (host, other) = (Upstream::start(shows), Upstream::start(echo));
    let file = secrets(&format!("{} Authorization {SECRET}\n", host.place()));
    let server = server(&[&host, &other], &file);
    let elsewhere = format!("X-Elsewhere: http://{}/\n", other.place());
    let mut wrong = Vec::new();
    for (number, (name, _)) in written(SECRET).iter().enumerate() {
        for how in ["body", "gzip", "pieces", "header", "redirect"] {
            let url = format!("http://{}/{how}/{number}", host.place());
            let run = fetch(&server, Request::get(&url).with(&elsewhere));
            if how == "redirect" {
                denied_by(&run, "secret");
                continue;
            }
            assert_eq!(code(&run), 200, "{name} {how}");
            let told = match how {
                "header" => server.emitted_text(run.id(), "headers"),
                _ => server.emitted_text(run.id(), "body"),
            };
            // JSON puts marks around it, and the mark in the part stands for all that is secret.
            let stars = ["<***>", "<\"***\">", "<\"\\\"***\\\"\">"].iter().any(|shown| told.contains(shown));
            if !stars || told.to_lowercase().contains(PIECE) {
                wrong.push(format!("{name}, {how}: {told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(other.connections(), 0, "a redirect carried it to another host");
    let records = server.get("/v1/runs?limit=500").text().to_lowercase();
    assert!(!records.contains(PIECE) && !server.log().to_lowercase().contains(PIECE));
}

#[test]
fn where_a_redirect_leads_to_is_told_to_nobody_if_a_secret_stands_there() {
    let key = "Sup3rS3cr3tK3y";
    let host = Upstream::start(|asked, to| {
        let key = asked.header("x-key").unwrap_or_default();
        let location = match asked.target() {
            "/host" => format!("http://{}.example.com/", key.to_uppercase()),
            "/path" => format!("https://evil.example.com/{}", key.to_lowercase()),
            "/scheme" => format!("{key}://example.com/"),
            "/none" => format!("http://[{key}"),
            // Letters that a URL takes for the plain ones.
            _ => {
                let wide: String =
                    key.chars().filter_map(|c| char::from_u32(u32::from(c) + 0xfee0)).collect();
                format!("http://{wide}.example.com/")
            }
        };
        reply(to, "302 Found", &[&format!("Location: {location}")], b"")
    });
    let file = secrets(&format!("{} X-Key {key}\n", host.place()));
    let server = server(&[&host], &file);
    for path in ["host", "path", "scheme", "none", "wide"] {
        let run = fetch(&server, Request::get(&format!("http://{}/{path}", host.place())));
        denied_by(&run, "secret");
        assert!(!run.record().to_string().to_lowercase().contains(&key.to_lowercase()), "{}", run.record());
    }
    assert!(!server.log().to_lowercase().contains(&key.to_lowercase()));
}

#[test]
fn names_of_headers_and_encodings_do_not_tell_it_either() {
    let key = "Sup3rS3cr3tK3y";
    let host = Upstream::start(|asked, to| {
        let key = asked.header("x-key").unwrap_or_default();
        match asked.target() {
            "/name" => reply(to, "200 OK", &[&format!("X-{key}-Is: it"), "X-Kept: yes"], b""),
            "/encoding" => reply(to, "200 OK", &[&format!("Content-Encoding: {key}")], b"x"),
            _ => {
                let body = gzip(&gzip(key.as_bytes()));
                let line = "Content-Encoding: gzip";
                let lines: &[&str] = if asked.target() == "/twice" {
                    &[line, line]
                } else {
                    &["Content-Encoding: gzip, gzip"]
                };
                reply(to, "200 OK", lines, &body)
            }
        }
    });
    let file = secrets(&format!("{} X-Key {key}\n", host.place()));
    let server = server(&[&host], &file);
    let run = fetch(&server, Request::get(&format!("http://{}/name", host.place())));
    assert_eq!(code(&run), 200);
    let headers = server.emitted_text(run.id(), "headers").to_lowercase();
    assert!(headers.contains("x-kept: yes") && !headers.contains("sup3r"), "{headers}");
    for path in ["encoding", "twice", "list"] {
        let run = fetch(&server, Request::get(&format!("http://{}/{path}", host.place())));
        assert_eq!(code(&run), DENIED);
        denied_by(&run, "secret");
        assert!(!run.record().to_string().to_lowercase().contains("sup3r"), "{}", run.record());
    }
}

/// The HTTP client undoes `chunked` as the last coding of the last line, and gives on what it leaves.
#[test]
fn a_body_that_was_encoded_in_transfer_does_not_come() {
    let key = "Sup3rS3cr3tK3y";
    let host = Upstream::start(|asked, to| {
        let key = asked.header("x-key").unwrap_or_default();
        let chunks =
            |body: &[u8]| [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
        let (lines, body) = match asked.target() {
            "/chunked" => (&["chunked"][..], chunks(key.as_bytes())),
            "/list" => (&["gzip, chunked"][..], chunks(&gzip(key.as_bytes()))),
            "/lines" => (&["gzip", "chunked"][..], chunks(&gzip(key.as_bytes()))),
            "/gzip" => (&["gzip"][..], gzip(key.as_bytes())),
            // Taken for no chunks, whose marks then stand inside of the secret.
            _ => (
                &["chunked, identity"][..],
                key.bytes().flat_map(|byte| [b"1\r\n", &[byte][..], b"\r\n"].concat()).collect(),
            ),
        };
        let lines: String = lines.iter().map(|line| format!("Transfer-Encoding: {line}\r\n")).collect();
        write!(to, "HTTP/1.1 200 OK\r\n{lines}Connection: close\r\n\r\n")?;
        to.write_all(&body)
    });
    let file = secrets(&format!("{} X-Key {key}\n", host.place()));
    let server = server(&[&host], &file);
    let run = fetch(&server, Request::get(&format!("http://{}/chunked", host.place())));
    assert_eq!(server.emitted_text(run.id(), "body"), "***");
    for path in ["list", "lines", "gzip", "identity"] {
        let run = fetch(&server, Request::get(&format!("http://{}/{path}", host.place())));
        assert_eq!(code(&run), UNREACHABLE, "{path}");
    }
}

#[test]
fn each_value_of_a_cookie_is_looked_for() {
    let host = Upstream::start(|_, to| reply(to, "200 OK", &[], b"sid is 0123456789abcdef, theme is dark"));
    let file = secrets(&format!("{} Cookie sid=0123456789abcdef; theme=dark\n", host.place()));
    let server = server(&[&host], &file);
    let run = fetch(&server, Request::get(&format!("http://{}/", host.place())));
    assert_eq!(server.emitted_text(run.id(), "body"), "sid is ***, theme is dark");
    assert_eq!(host.asked()[0].header("cookie"), Some("sid=0123456789abcdef; theme=dark"));
}
