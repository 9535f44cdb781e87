//! A trustless HTTP gateway: one block by `?format=raw`, a DAG by `?format=car`, as the IPFS specifications say.
//! "Trustless" is meant: nothing it sends is taken before its hash was compared.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::ACCEPT;
use reqwest::{Client, Url};

use super::kubo::base;
use super::{Protocol, Refusal, client, walk};
use crate::answer::{Miss, SourceKind};
use crate::car;
use crate::error::SupplyError;
use crate::source::{Found, blocking};
use crate::unixfs::{self, MAX_BLOCK};
use crate::verify::{Block, Verified};
use crate::want::Want;

const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=n";

/// Not there, gone, or withheld by law.
const ABSENT: [u16; 3] = [404, 410, 451];
/// Answers to a request for a CAR that are about the gateway or the content, and not about the form: too slow, too many
/// requests, withheld, overloaded. After any other (400, 404, 406, 410, 501, a redirect), and after one that breaks off,
/// the blocks may still be had one by one.
const FINAL: [u16; 6] = [408, 429, 451, 503, 504, 524];

impl Refusal {
    /// Whether a refused request for a CAR leaves no hope for one of a block.
    fn ends_it(&self) -> bool {
        matches!(self.miss, Miss::Down(_) | Miss::Silent(_))
            || self.status.is_some_and(|status| FINAL.contains(&status))
    }
}

/// What came of a request for a CAR.
enum Car {
    /// The file, complete.
    File(Found),
    /// The root block alone.
    Root(Block),
    /// One that lacks blocks or has wrong ones.
    Spoilt(Miss),
    /// No CAR.
    None,
}

/// A gateway.
pub(crate) struct Gateway {
    base: Url,
    name: String,
    client: Option<Client>,
    max_file: u64,
}

impl Gateway {
    /// `address` is the gateway's URL, with or without `/ipfs` at its end.
    pub(crate) fn new(address: &str, max_file: u64, timeout: Duration) -> Result<Self, SupplyError> {
        let mut base = base(address).ok_or_else(|| SupplyError::BadAddress {
            variable: "FNPM_HTTP_GATEWAYS",
            value: address.to_owned(),
            accepted: "a comma list of gateway addresses such as https://ipfs.io",
        })?;
        let path = base.path().trim_end_matches('/').trim_end_matches("/ipfs").to_owned();
        base.set_path(&format!("{path}/ipfs/"));
        let host = base.host_str().unwrap_or_default();
        let name = match base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self { base, name, client: client::build(timeout), max_file })
    }

    fn request(&self, want: &Want, format: &str, accept: &str) -> Result<reqwest::RequestBuilder, Refusal> {
        let client = self.client.as_ref().ok_or_else(client::no_client)?;
        let mut url = self.base.clone();
        url.set_path(&format!("{}{want}", self.base.path()));
        url.set_query(Some(format));
        Ok(client.get(url).header(ACCEPT, accept))
    }

    async fn bytes(&self, want: &Want, cap: u64) -> Result<Verified, Refusal> {
        let response = client::send(self.request(want, "format=raw", RAW)?, &ABSENT).await?;
        client::verified(response, cap, want.digest()).await
    }

    async fn block(&self, want: Want) -> (Want, Result<Block, Refusal>) {
        (want, self.bytes(&want, MAX_BLOCK).await.map(Block::from))
    }

    /// The DAG in one answer. A gateway that does not make CARs may answer with an error, with the root block, or with
    /// anything else.
    async fn car(&self, want: &Want) -> Result<Car, Refusal> {
        let request = self.request(want, "format=car&dag-scope=entity", CAR)?;
        let cap = unixfs::fetch_cap(self.max_file);
        let body = match client::send(request, &ABSENT).await {
            Ok(response) => client::unverified(response, cap).await,
            Err(refusal) => Err(refusal),
        };
        let body = match body {
            Ok(body) => body,
            Err(refusal) if refusal.ends_it() => return Err(refusal),
            Err(_) => return Ok(Car::None),
        };
        if body.len() as u64 <= MAX_BLOCK
            && let Some(root) = Block::check(body.clone(), want.digest())
        {
            return Ok(Car::Root(root));
        }
        if !car::is_one(&body) {
            return Ok(Car::None);
        }
        let (want, max_file) = (*want, self.max_file);
        match blocking(move || unixfs::from_car(&want, body, max_file)).await {
            Ok(found) => Ok(Car::File(found)),
            Err(miss @ Miss::Invalid(_)) => Err(miss.into()),
            // Cut short, as gateways do that find in the middle that they lack a block; or broken.
            Err(miss) => Ok(Car::Spoilt(miss)),
        }
    }

    /// The file under a root block: in one answer, or block by block.
    async fn dag(&self, want: &Want) -> Result<Found, Refusal> {
        let (root, spoilt) = match self.car(want).await? {
            Car::File(found) => return Ok(found),
            Car::Root(root) => (Some(root), None),
            Car::Spoilt(miss) => (None, Some(miss)),
            Car::None => (None, None),
        };
        let walked = walk::walk(want, root, self.max_file, |want| self.block(want)).await;
        match (walked, spoilt) {
            // That it lied before weighs more than that it has no blocks to give.
            (Err(Refusal { miss: Miss::Absent(_), .. }), Some(lie @ Miss::Lied(_))) => Err(lie.into()),
            (walked, _) => walked,
        }
    }
}

impl Protocol for Gateway {
    fn kind(&self) -> SourceKind {
        SourceKind::Gateway
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn get<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Found, Refusal>> {
        Box::pin(async move {
            match want {
                Want::Raw(_) => Ok(self.bytes(want, self.max_file).await?.into()),
                Want::Dag(..) => self.dag(want).await,
            }
        })
    }
}
