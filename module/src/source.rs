//! What a source is to the chain: asked for one module, it delivers verified bytes or says why not.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::Semaphore;

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

/// A place where modules may be. Implemented by the manifests, the cache, Kubo and the gateways.
pub(crate) trait Source: Send + Sync {
    fn kind(&self) -> SourceKind;

    /// Its name in answers; no host path.
    fn name(&self) -> &str;

    /// Looks for the module, for a tenant. Only verified bytes can be returned. What is found is found for all; the
    /// tenant matters for what its asking may cost the others.
    fn fetch<'a>(&'a self, want: &'a Want, tenant: &'a str) -> Fetch<'a>;
}

/// Blocking work that may be done where the asking runs, at once: see [`blocking`].
const IN_PLACE: usize = 4;
static PLACES: Semaphore = Semaphore::const_new(IN_PLACE);

/// Runs blocking work so that the runtime goes on. Where it can it is done on the thread that asks, while another takes
/// over the runtime: two wake-ups less, which cost more than a small file does. Where too much is done so already (a
/// disk that hangs), on the blocking threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Miss> + Send + 'static,
) -> Result<T, Miss> {
    if let Ok(_place) = PLACES.try_acquire() {
        return tokio::task::block_in_place(work);
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Miss::Failed("could not be read, by a fault of the service".to_owned())),
    }
}
