//! What a source is to the chain: asked for one module, it delivers verified bytes or says why not.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::answer::{Miss, SourceKind};
use crate::verify::Verified;
use crate::want::Want;

/// A module that a source delivered.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) module: Verified,
    /// For a DAG, its blocks as a CAR: the proof that the cache keeps, since the file alone cannot be compared
    /// with the root.
    pub(crate) proof: Option<Vec<Bytes>>,
    /// Which of the source's places had it, as it may be shown to a tenant.
    pub(crate) place: Option<String>,
}

impl From<Verified> for Found {
    fn from(module: Verified) -> Self {
        Self { module, proof: None, place: None }
    }
}

pub(crate) type Fetch<'a> = Pin<Box<dyn Future<Output = Result<Found, Miss>> + Send + 'a>>;

/// A place on this machine where modules may be: the manifests, and the cache folder.
pub(crate) trait Local: Send + Sync {
    fn kind(&self) -> SourceKind;

    /// Its name in answers; no host path.
    fn name(&self) -> &str;

    /// Looks for the module. Only verified bytes can be returned. Blocking, on no thread of `on`, which is where work can be
    /// put that may hang.
    fn find(&self, on: &Handle, want: &Want) -> Result<Found, Miss>;
}

/// A place over the network where modules may be: a Kubo node, and each gateway.
pub(crate) trait Source: Send + Sync {
    fn kind(&self) -> SourceKind;

    /// Its name in answers.
    fn name(&self) -> &str;

    /// Looks for the module, for a tenant. Only verified bytes can be returned. What is found is found for all; the
    /// tenant matters for what its asking may cost the others.
    fn fetch<'a>(&'a self, want: &'a Want, tenant: &'a str) -> Fetch<'a>;
}

/// Runs blocking work so that the runtime goes on.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Miss> + Send + 'static,
) -> Result<T, Miss> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Miss::Failed("could not be read, by a fault of the service".to_owned())),
    }
}
