//! What the tests stand on: a server that behaves as told, folders, and the vectors.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cid::Cid;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use void_api::{CidText, Target};
use void_module::{Supply, SupplyConfig};

/// How the server answers a request.
#[derive(Clone)]
pub(crate) enum Reply {
    Bytes(Vec<u8>),
    Html(String),
    Status(u16),
    RetryAfter(u16, String),
    Redirect(String),
    /// Says nothing.
    Hang,
    /// Sends without end, as fast as it can.
    Forever,
    /// A byte, then a pause, and so on.
    Slow(Vec<u8>, Duration),
    /// Claims a length and closes before.
    Short(Vec<u8>, u64),
    /// Claims this length and sends nothing.
    Claim(u64),
    /// After a pause.
    Late(Duration, Vec<u8>),
}

/// A server on a port that the kernel picked, with the requests that it has seen.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the method with the target, such as `GET /ipfs/x?format=raw`.
    pub(crate) async fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (answer.clone(), log.clone());
                tokio::spawn(async move {
                    let _ = serve(stream, &*answer, &log).await;
                });
            }
        });
        Self { url, seen }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &(impl Fn(&str) -> Reply + ?Sized),
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let request = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    log.lock().unwrap().push(request.clone());
    let line = |status: u16| format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
    let ok = |kind: &str, length: u64| {
        format!("{}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n", line(200))
    };
    let binary = "application/octet-stream";
    match answer(&request) {
        Reply::Bytes(bytes) => {
            stream.write_all(ok(binary, bytes.len() as u64).as_bytes()).await?;
            stream.write_all(&bytes).await
        }
        Reply::Late(pause, bytes) => {
            tokio::time::sleep(pause).await;
            stream.write_all(ok(binary, bytes.len() as u64).as_bytes()).await?;
            stream.write_all(&bytes).await
        }
        Reply::Html(text) => {
            stream.write_all(ok("text/html; charset=utf-8", text.len() as u64).as_bytes()).await?;
            stream.write_all(text.as_bytes()).await
        }
        Reply::Status(status) => {
            stream.write_all(format!("{}Content-Length: 0\r\n\r\n", line(status)).as_bytes()).await
        }
        Reply::RetryAfter(status, seconds) => {
            let head = format!("{}Retry-After: {seconds}\r\nContent-Length: 0\r\n\r\n", line(status));
            stream.write_all(head.as_bytes()).await
        }
        Reply::Redirect(to) => {
            let head = format!("{}Location: {to}\r\nContent-Length: 0\r\n\r\n", line(302));
            stream.write_all(head.as_bytes()).await
        }
        Reply::Hang => std::future::pending().await,
        Reply::Forever => {
            stream.write_all(format!("{}\r\n", line(200)).as_bytes()).await?;
            loop {
                stream.write_all(&[7; 65536]).await?;
            }
        }
        Reply::Slow(bytes, pause) => {
            stream.write_all(ok(binary, bytes.len() as u64).as_bytes()).await?;
            for byte in bytes {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(pause).await;
            }
            Ok(())
        }
        Reply::Short(bytes, length) => {
            stream.write_all(ok(binary, length).as_bytes()).await?;
            stream.write_all(&bytes).await
        }
        Reply::Claim(length) => {
            stream.write_all(ok(binary, length).as_bytes()).await?;
            std::future::pending().await
        }
    }
}

/// A folder for one test, and a configuration in it without any network source.
pub(crate) fn fresh() -> (tempfile::TempDir, SupplyConfig) {
    let top = tempfile::tempdir().unwrap();
    let mut config = SupplyConfig::new(top.path().join("state"));
    config.cache_dir = Some(top.path().join("cache"));
    config.manifest_dirs = vec![top.path().join("chimera-output")];
    config.fetch_timeout = Duration::from_millis(2000);
    config.manifest_recheck = Duration::from_millis(100);
    (top, config)
}

pub(crate) fn supply(config: SupplyConfig) -> Supply {
    Supply::new(config).unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(crate) fn raw(bytes: &[u8]) -> CidText {
    CidText::raw(digest(bytes))
}

pub(crate) fn by_cid(cid: &str) -> Target {
    Target::Cid(cid.parse().unwrap())
}

pub(crate) fn by_bytes(bytes: &[u8]) -> Target {
    Target::Cid(raw(bytes))
}

/// Where the cache lays a module.
pub(crate) fn laid(folder: &Path, cid: &str, kind: &str) -> PathBuf {
    folder.join(&cid[..2]).join(&cid[2..4]).join(format!("{cid}.{kind}"))
}

pub(crate) fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// An entry of a manifest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gene<'a> {
    pub(crate) name: &'a str,
    pub(crate) cid: Option<&'a str>,
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) ast: Option<[u8; 32]>,
}

pub(crate) fn manifest(genes: &[Gene<'_>]) -> String {
    let genes: Vec<_> = genes
        .iter()
        .map(|gene| {
            serde_json::json!({
                "name": gene.name, "lang": "wat", "entry": gene.name, "size": 1, "cid": gene.cid,
                "sha256": gene.sha256.map(hex::encode),
                "astHash": gene.ast.map(|ast| format!("sha256:{}", hex::encode(ast))),
            })
        })
        .collect();
    serde_json::json!({ "version": "1.0.0", "createdAt": "2025-01-01T00:00:00Z", "genes": genes }).to_string()
}

/// One line of vectors.json.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) cid: String,
    #[serde(default)]
    pub(crate) seed: String,
    #[serde(default)]
    pub(crate) size: usize,
    #[serde(default)]
    pub(crate) sha256: String,
    pub(crate) car: bool,
    #[serde(default)]
    pub(crate) layout: bool,
    #[serde(default)]
    pub(crate) refused: String,
}

fn vector_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub(crate) fn vectors() -> Vec<Vector> {
    serde_json::from_slice(&std::fs::read(vector_folder().join("vectors.json")).unwrap()).unwrap()
}

impl Vector {
    pub(crate) fn car_bytes(&self) -> Vec<u8> {
        std::fs::read(vector_folder().join(format!("{}.car", self.name))).unwrap()
    }

    /// The file's bytes, made as make.mjs makes them.
    pub(crate) fn content(&self) -> Vec<u8> {
        if self.seed.is_empty() {
            return vec![0; self.size];
        }
        let once = self.size.min(1_000_003);
        let mut bytes = Vec::with_capacity(self.size);
        for number in 0u32.. {
            if bytes.len() >= once {
                break;
            }
            bytes
                .extend(Sha256::new().chain_update(&self.seed).chain_update(number.to_be_bytes()).finalize());
        }
        bytes.truncate(once);
        bytes.iter().copied().cycle().take(self.size).collect()
    }

    pub(crate) fn target(&self) -> Target {
        by_cid(&self.cid)
    }

    /// Its CIDv1.
    pub(crate) fn v1(&self) -> String {
        Cid::try_from(self.cid.as_str()).unwrap().into_v1().unwrap().to_string()
    }

    /// Its blocks by the CIDs under which the CAR has them.
    pub(crate) fn blocks(&self) -> HashMap<String, Vec<u8>> {
        blocks_of(&self.car_bytes())
    }
}

/// A CAR read by other means than the product's.
pub(crate) fn blocks_of(car: &[u8]) -> HashMap<String, Vec<u8>> {
    fn length(bytes: &mut &[u8]) -> usize {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= usize::from(byte & 127) << shift;
            if byte < 128 {
                return value;
            }
        }
        unreachable!()
    }
    let mut rest = car;
    let header = length(&mut rest);
    rest = &rest[header..];
    let mut blocks = HashMap::new();
    while !rest.is_empty() {
        let size = length(&mut rest);
        let mut section = &rest[..size];
        rest = &rest[size..];
        let cid = Cid::read_bytes(&mut section).unwrap();
        blocks.insert(cid.to_string(), section.to_vec());
    }
    blocks
}

/// The CID that a request names.
pub(crate) fn asked_cid(request: &str) -> &str {
    let after = request.split_once("/ipfs/").or_else(|| request.split_once("arg=")).map(|(_, after)| after);
    after.unwrap_or_default().split(['?', '&']).next().unwrap_or_default()
}

/// A gateway that has these blocks, and CARs if it makes them.
pub(crate) async fn gateway(
    blocks: HashMap<String, Vec<u8>>,
    cars: Option<HashMap<String, Vec<u8>>>,
) -> Server {
    Server::start(move |request| {
        let found = if request.starts_with("GET ") && request.ends_with("?format=raw") {
            blocks.get(asked_cid(request))
        } else if request.starts_with("GET ") && request.contains("?format=car") {
            match &cars {
                None => return Reply::Status(406),
                Some(cars) => cars.get(asked_cid(request)),
            }
        } else {
            return Reply::Status(400);
        };
        found.map_or(Reply::Status(404), |bytes| Reply::Bytes(bytes.clone()))
    })
    .await
}

/// A Kubo node that has these blocks.
pub(crate) async fn kubo(blocks: HashMap<String, Vec<u8>>) -> Server {
    Server::start(move |request| {
        if !request.starts_with("POST /api/v0/block/get?arg=") {
            return Reply::Status(405);
        }
        blocks.get(asked_cid(request)).map_or(Reply::Status(500), |bytes| Reply::Bytes(bytes.clone()))
    })
    .await
}
