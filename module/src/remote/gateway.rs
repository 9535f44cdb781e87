//! A trustless HTTP gateway: one block by `?format=raw`, a DAG by `?format=car`, as the IPFS specifications say.
//! "Trustless" is meant: nothing it sends is taken before its hash was compared.

use futures_util::future::BoxFuture;
use reqwest::header::ACCEPT;
use reqwest::{Client, Url};

use super::kubo::base;
use super::{Protocol, Refusal, client, walk};
use crate::answer::SourceKind;
use crate::error::SupplyError;
use crate::source::{Found, blocking};
use crate::unixfs::{self, MAX_BLOCK};
use crate::verify::{Block, Verified};
use crate::want::Want;

const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=n";

/// Not there, gone, or withheld by law.
const ABSENT: [u16; 3] = [404, 410, 451];
/// Answers of a gateway that does not make CARs; its blocks can still be had one by one.
const NO_CAR: [u16; 4] = [400, 406, 415, 501];

/// A gateway.
pub(crate) struct Gateway {
    base: Url,
    name: String,
    client: Option<Client>,
    max_file: u64,
}

impl Gateway {
    /// `address` is the gateway's URL, with or without `/ipfs` at its end.
    pub(crate) fn new(address: &str, max_file: u64) -> Result<Self, SupplyError> {
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
        Ok(Self { base, name, client: client::build(), max_file })
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

    /// The DAG in one answer; `None` where the gateway does not make such answers.
    async fn car(&self, want: &Want) -> Result<Option<Found>, Refusal> {
        let request = self.request(want, "format=car&dag-scope=entity", CAR)?;
        let response = match client::send(request, &ABSENT).await {
            Ok(response) => response,
            Err(Refusal { status: Some(status), .. }) if NO_CAR.contains(&status) => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        let body = client::unverified(response, unixfs::fetch_cap(self.max_file)).await?;
        let (want, max_file) = (*want, self.max_file);
        Ok(Some(blocking(move || unixfs::from_car(&want, body, max_file)).await?))
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
                Want::Dag(_) => match self.car(want).await? {
                    Some(found) => Ok(found),
                    None => walk::walk(want, self.max_file, |want| self.block(want)).await,
                },
            }
        })
    }
}
