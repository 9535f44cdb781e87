//! A Kubo node's RPC: `POST /api/v0/block/get?arg=<cid>` gives one block.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Client, Url};

use super::{Protocol, Refusal, client, walk};
use crate::answer::SourceKind;
use crate::error::SupplyError;
use crate::source::Found;
use crate::unixfs::MAX_BLOCK;
use crate::verify::{Block, Verified};
use crate::want::Want;

/// Kubo answers 500 to everything that it cannot do, not having the block included.
const ABSENT: [u16; 2] = [404, 500];

/// A Kubo node.
pub(crate) struct Kubo {
    url: Url,
    client: Option<Client>,
    max_file: u64,
}

impl Kubo {
    /// `address` is a URL.
    pub(crate) fn new(address: &str, max_file: u64, timeout: Duration) -> Result<Self, SupplyError> {
        let refusal = || SupplyError::BadAddress {
            variable: "FNPM_IPFS_API",
            value: address.to_owned(),
            accepted: "a Kubo RPC address such as http://127.0.0.1:5001",
        };
        let mut url = base(address).ok_or_else(refusal)?;
        let path = url.path().trim_end_matches('/').trim_end_matches("/api/v0").to_owned();
        url.set_path(&format!("{path}/api/v0/block/get"));
        Ok(Self { url, client: client::build(timeout), max_file })
    }

    async fn bytes(&self, want: &Want, cap: u64) -> Result<Verified, Refusal> {
        let client = self.client.as_ref().ok_or_else(client::no_client)?;
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("arg", &want.to_string());
        let response = client::send(client.post(url), &ABSENT).await?;
        client::verified(response, cap, want.digest()).await
    }

    async fn block(&self, want: Want) -> (Want, Result<Block, Refusal>) {
        (want, self.bytes(&want, MAX_BLOCK).await.map(Block::from))
    }
}

impl Protocol for Kubo {
    fn kind(&self) -> SourceKind {
        SourceKind::Ipfs
    }

    fn name(&self) -> &str {
        // Not its address: that is inside the operator's network.
        "IPFS API"
    }

    fn get<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Found, Refusal>> {
        Box::pin(async move {
            match want {
                Want::Raw(_) => Ok(self.bytes(want, self.max_file).await?.into()),
                Want::Dag(..) => walk::walk(want, None, self.max_file, |want| self.block(want)).await,
            }
        })
    }
}

/// An http or https URL that can have a path put to it.
pub(super) fn base(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    let bare = url.query().is_none() && url.fragment().is_none();
    let open = url.username().is_empty() && url.password().is_none();
    (web && bare && open).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_their_path() {
        let url = |text: &str| Kubo::new(text, 1, Duration::from_secs(1)).map(|kubo| kubo.url.to_string());
        for (given, path) in [
            ("http://127.0.0.1:5001", "http://127.0.0.1:5001/api/v0/block/get"),
            ("http://127.0.0.1:5001/api/v0/", "http://127.0.0.1:5001/api/v0/block/get"),
        ] {
            assert_eq!(url(given).unwrap(), path);
        }
        for bad in ["", "127.0.0.1:5001", "ftp://x", "/ip4/127.0.0.1", "/unix/a", "http://a/?x", "http://u@a"]
        {
            assert!(url(bad).unwrap_err().to_string().contains("FNPM_IPFS_API"), "{bad}");
        }
    }
}
