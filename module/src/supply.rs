//! The supply: from a target to verified bytes, by memory, uploads, and the chain of sources.
//!
//! It has threads of its own. Callers run on pinned, single-threaded runtimes that must not wait for a disk, a slow
//! gateway or the hash of 50 MB, and a fetch must outlive the request that started it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use void_api::{CidText, Target};

use crate::answer::{Answer, Miss, SourceKind};
use crate::cache::Cache;
use crate::config::SupplyConfig;
use crate::error::{ResolveError, SupplyError, UploadError};
use crate::files::Trouble;
use crate::flight::{Flight, Flights, Key, Outcome};
use crate::hot::Hot;
use crate::manifest::{AstClaim, Manifests};
use crate::readers::Readers;
use crate::remote::{Gateway, Kubo, Remote};
use crate::source::{Found, Local, Source};
use crate::stats::{Stats, StatsSnapshot};
use crate::uploads::{Stored, Uploads};
use crate::verify::{Digest, Verified};
use crate::want::{Ask, Want};

/// A module whose every byte was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// CIDv1 `raw` of the bytes, also where another CID was asked for.
    pub cid: String,
    /// sha256 of the bytes.
    pub sha256: [u8; 32],
    /// The bytes. Hostile: verified to be the ones named, not to be harmless.
    pub bytes: Bytes,
    /// The kind of source that delivered them.
    pub source: SourceKind,
    /// Which one of that kind: a gateway's host, a manifest's folder and file.
    pub fetched_from: Option<String>,
}

impl Module {
    fn new(verified: &Verified, source: SourceKind, fetched_from: Option<String>) -> Arc<Self> {
        let sha256 = *verified.sha256();
        let cid = CidText::raw(sha256).to_string();
        Arc::new(Self { cid, sha256, bytes: verified.bytes().clone(), source, fetched_from })
    }
}

/// Module supply. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Supply {
    inner: Arc<Inner>,
    /// The threads end with the last clone.
    threads: Arc<Threads>,
}

struct Threads {
    runtime: Option<Runtime>,
    readers: Readers,
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for a slow gateway here would hold up whoever drops the last clone.
            runtime.shutdown_background();
        }
    }
}

/// A source that has not got it, and its answer.
type Missed = (Miss, Answer);

struct Inner {
    hot: Hot,
    uploads: Uploads,
    manifests: Manifests,
    cache: Option<Arc<Cache>>,
    /// On this machine, in asking order.
    local: Vec<Arc<dyn Local>>,
    /// Over the network, asked after those, in asking order.
    remote: Vec<Arc<dyn Source>>,
    flights: Arc<Flights>,
    stats: Arc<Stats>,
    fetches: Arc<Semaphore>,
    tenants: Mutex<HashMap<String, Weak<Semaphore>>>,
    fetches_per_tenant: usize,
    max_file: u64,
}

impl Supply {
    /// Opens the folders, checks the addresses and starts the threads. Asks no source yet.
    ///
    /// Call it on a thread that is not pinned to a CPU, after anything that must be forked: threads inherit both.
    pub fn new(config: SupplyConfig) -> Result<Self, SupplyError> {
        let stats = Arc::new(Stats::default());
        let max_file = config.max_file_size;
        let uploads = Uploads::open(config.state_dir.join("modules"), config.upload_quota, max_file)?;
        let manifests =
            Manifests::new(config.manifest_dirs, config.manifest_recheck, config.fetch_timeout, max_file);
        let cache = config
            .cache_dir
            .map(|folder| Arc::new(Cache::new(folder, config.cache_max_bytes, max_file, stats.clone())));
        let mut local: Vec<Arc<dyn Local>> = vec![Arc::new(manifests.clone())];
        if let Some(cache) = &cache {
            local.push(cache.clone());
        }
        let mut remote: Vec<Arc<dyn Source>> = Vec::new();
        if let Some(address) = &config.ipfs_api {
            remote.push(Arc::new(Remote::new(
                Kubo::new(address, max_file, config.fetch_timeout)?,
                config.fetch_timeout,
            )));
        }
        for address in &config.gateways {
            remote.push(Arc::new(Remote::new(
                Gateway::new(address, max_file, config.fetch_timeout)?,
                config.fetch_timeout,
            )));
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(12)
            .thread_name("module-supply")
            .enable_all()
            .build()
            .map_err(|error| SupplyError::Threads(error.kind()))?;
        let readers = Readers::start().map_err(|error| SupplyError::Threads(error.kind()))?;
        let inner = Inner {
            hot: Hot::new(config.hot_max_bytes),
            uploads,
            manifests,
            cache,
            local,
            remote,
            flights: Arc::default(),
            stats,
            fetches: Arc::new(Semaphore::new(config.fetches.max(1))),
            tenants: Mutex::default(),
            fetches_per_tenant: config.fetches_per_tenant.max(1),
            max_file,
        };
        Ok(Self { inner: Arc::new(inner), threads: Arc::new(Threads { runtime: Some(runtime), readers }) })
    }

    /// The module that `target` names, as `tenant` may see it. From memory at the price of a map look-up; else from
    /// the first source that has it. Requests for one module at the same time share one fetch, which goes on when
    /// the caller is gone.
    pub async fn resolve(&self, tenant: &str, target: &Target) -> Result<Arc<Module>, ResolveError> {
        match Ask::from(target) {
            Ask::Bytes(want) => self.bytes(tenant, &want).await,
            Ask::Ast(digest) => self.ast(tenant, &digest).await,
        }
    }

    async fn ast(&self, tenant: &str, digest: &Digest) -> Result<Arc<Module>, ResolveError> {
        let what = Ask::Ast(*digest).to_string();
        let manifests = |said| Answer {
            source: SourceKind::Manifest,
            name: self.inner.manifests.name().to_owned(),
            said,
            left_out: false,
        };
        let Some(on) = self.handle() else { return Err(ResolveError::Internal { what }) };
        let (claim, index) = self.inner.manifests.ast(on, digest).await;
        match claim {
            None => Err(ResolveError::NotFound { what, answers: vec![manifests(index.not_listed())] }),
            Some(AstClaim::Ambiguous { first, second }) => {
                Err(ResolveError::Ambiguous { what, first, second })
            }
            Some(AstClaim::One { want, sha256, said_by }) => {
                let named = |error: ResolveError| {
                    let name = format!("{}, of {what}", error.what());
                    error.named(name)
                };
                let module = self.bytes(tenant, &want).await.map_err(named)?;
                match sha256 {
                    Some(stated) if stated != module.sha256 => {
                        let said = format!("{said_by} says another sha256 than the bytes of its CID have");
                        Err(ResolveError::Unverified { what, answers: vec![manifests(said)] })
                    }
                    _ => Ok(module),
                }
            }
        }
    }

    async fn bytes(&self, tenant: &str, want: &Want) -> Result<Arc<Module>, ResolveError> {
        if let Some(module) = self.inner.remembered(tenant, want) {
            self.inner.stats.memory_hit();
            return Ok(module);
        }
        let mut said = Miss::Absent("this tenant has not uploaded it".to_owned());
        if let Some(digest) = self.inner.file_digest(want)
            && self.inner.uploads.has(tenant, &digest)
        {
            match self.upload_of(tenant, digest).await {
                Ok(module) => return Ok(module),
                Err(miss) => said = miss,
            }
        }
        let (mut outcome, own) = self.shared(tenant, want, Key::Shared(*want)).await;
        // A source may be left out for who began the fetch and not for this tenant, or know the CID in this form alone.
        let name = want.to_string();
        let differs = |error: &ResolveError| {
            error.what() != name || error.answers().iter().any(|answer| answer.left_out)
        };
        if !own && outcome.as_ref().is_err_and(differs) {
            (outcome, _) = self.shared(tenant, want, Key::Own(tenant.into(), *want)).await;
        }
        outcome.map_err(|error| error.after_uploads(said).named(name))
    }

    /// Asks the shared sources, or waits for who does so already. With it, whether the asking was this call's own.
    async fn shared(&self, tenant: &str, want: &Want, key: Key) -> (Outcome, bool) {
        let fault = || Err(ResolveError::Internal { what: want.to_string() });
        let Some(on) = self.handle() else { return (fault(), true) };
        let (inner, owner, wanted) = (self.inner.clone(), tenant.to_owned(), *want);
        let mut own = false;
        let landed = || self.inner.remembered(tenant, want);
        let start = |flight: Flight| {
            own = true;
            let network = on.clone();
            self.threads.readers.run(on, move || {
                let asked = Instant::now();
                match inner.find(&network, &owner, &wanted) {
                    ControlFlow::Break(outcome) => flight.land(outcome),
                    ControlFlow::Continue(misses) => {
                        let rest = async move { inner.find_later(&owner, &wanted, asked, misses).await };
                        network.spawn(async move { flight.land(rest.await) });
                    }
                }
            });
        };
        let outcome = self.inner.flights.join(key, landed, start).await;
        (outcome.unwrap_or_else(fault), own)
    }

    /// Reads a tenant's own upload. The error is what the uploads answer.
    async fn upload_of(&self, tenant: &str, digest: Digest) -> Result<Arc<Module>, Miss> {
        let fault = || Miss::Failed("could not be read, by a fault of the service".to_owned());
        let on = self.handle().ok_or_else(fault)?;
        let want = Want::Raw(digest);
        let key = Key::Upload(tenant.into(), want);
        let (inner, owner) = (self.inner.clone(), tenant.to_owned());
        let start = |flight: Flight| {
            self.threads.readers.run(on, move || flight.land(inner.read_upload(&owner, &digest)));
        };
        let landed = || self.inner.remembered(tenant, &want);
        match self.inner.flights.join(key, landed, start).await {
            Some(Ok(module)) => Ok(module),
            Some(Err(ResolveError::Unverified { .. })) => {
                Err(Miss::Lied("held other bytes, removed".to_owned()))
            }
            Some(Err(error)) => {
                Err(Miss::Failed(error.answers().first().map_or_else(String::new, |a| a.said.clone())))
            }
            None => Err(fault()),
        }
    }

    /// Keeps a module in the tenant's uploads and in memory. When this returns, the disk has it.
    pub async fn upload(&self, tenant: &str, bytes: Bytes) -> Result<Stored, UploadError> {
        let size = bytes.len() as u64;
        if size > self.inner.max_file {
            return Err(UploadError::TooLarge { size, max: self.inner.max_file });
        }
        let on = self.handle().ok_or(UploadError::Internal)?;
        let (inner, tenant) = (self.inner.clone(), tenant.to_owned());
        let work = move || {
            let verified = Verified::named_by_itself(bytes);
            let new = inner.uploads.store(&tenant, &verified)?;
            let module = Module::new(&verified, SourceKind::Uploads, None);
            let stored = Stored { cid: module.cid.clone(), sha256: module.sha256, size, new };
            inner.hot.keep(&tenant, module);
            Ok(stored)
        };
        // By way of a thread of ours: a blocking thread inherits the CPUs of the thread that asks for it.
        let done = on.spawn(async move { tokio::task::spawn_blocking(work).await }).await;
        match done {
            Ok(Ok(result)) => result,
            _ => Err(UploadError::Internal),
        }
    }

    /// Counts for the metrics.
    pub fn stats(&self) -> StatsSnapshot {
        let mut snapshot = self.inner.stats.snapshot();
        (snapshot.memory_modules, snapshot.memory_bytes) = self.inner.hot.size();
        snapshot
    }

    fn handle(&self) -> Option<&Handle> {
        self.threads.runtime.as_ref().map(Runtime::handle)
    }
}

impl Inner {
    /// The digest of the file's bytes, where the wish says it or a walk has found it out.
    fn file_digest(&self, want: &Want) -> Option<Digest> {
        match want {
            Want::Raw(digest) => Some(*digest),
            Want::Dag(root, _) => self.hot.file_of_root(root),
        }
    }

    fn remembered(&self, tenant: &str, want: &Want) -> Option<Arc<Module>> {
        self.hot.get(tenant, &self.file_digest(want)?)
    }

    /// Blocking.
    fn read_upload(&self, tenant: &str, digest: &Digest) -> Outcome {
        let what = Want::Raw(*digest).to_string();
        let answer = |said| {
            vec![Answer { source: SourceKind::Uploads, name: "uploads".to_owned(), said, left_out: false }]
        };
        let trouble = match self.uploads.read(tenant, digest) {
            Ok(verified) => {
                self.stats.found(SourceKind::Uploads, verified.bytes().len());
                return Ok(self.hot.keep(tenant, Module::new(&verified, SourceKind::Uploads, None)));
            }
            Err(trouble) => trouble,
        };
        let said = trouble.said();
        let miss = match trouble {
            Trouble::OtherBytes => Miss::Lied(said.clone()),
            _ => Miss::Failed(said.clone()),
        };
        self.stats.missed(SourceKind::Uploads, &miss);
        match miss {
            Miss::Lied(_) => Err(ResolveError::Unverified { what, answers: answer(said) }),
            _ => Err(ResolveError::NotFound { what, answers: answer(said) }),
        }
    }

    /// Asks the shared sources on this machine one after the other: the outcome, or who has not got it. Blocking.
    fn find(&self, on: &Handle, tenant: &str, want: &Want) -> ControlFlow<Outcome, Vec<Missed>> {
        let mut misses = Vec::new();
        let mut unlisted = None;
        for source in &self.local {
            let (kind, name) = (source.kind(), source.name());
            let said = match source.find(on, want) {
                Ok(found) => ControlFlow::Break(Ok(self.deliver(tenant, want, kind, found))),
                Err(miss) => {
                    if matches!(miss, Miss::Unlisted(_)) {
                        unlisted = Some(kind);
                    }
                    self.missed(want, kind, name, miss, &mut misses)
                }
            };
            if let ControlFlow::Break(outcome) = said {
                // Nobody looks again.
                if let Some(kind) = unlisted {
                    self.stats.unlisted(kind);
                }
                return ControlFlow::Break(outcome);
            }
        }
        ControlFlow::Continue(misses)
    }

    /// What takes time: the manifests that may have been written just now, and then the network.
    async fn find_later(
        &self,
        tenant: &str,
        want: &Want,
        asked: Instant,
        mut misses: Vec<Missed>,
    ) -> Outcome {
        let unlisted = misses.iter().position(|(miss, _)| matches!(miss, Miss::Unlisted(_)));
        if let Some(at) = unlisted {
            let (kind, name) = (self.manifests.kind(), self.manifests.name());
            match self.manifests.find_new(want, asked).await {
                None => self.stats.unlisted(kind),
                Some(Ok(found)) => return Ok(self.deliver(tenant, want, kind, found)),
                Some(Err(miss)) => {
                    misses.remove(at);
                    if let ControlFlow::Break(outcome) = self.missed(want, kind, name, miss, &mut misses) {
                        return outcome;
                    }
                }
            }
        }
        if self.remote.is_empty() {
            return Err(ResolveError::from_misses(want.to_string(), misses));
        }
        self.fetch(tenant, want, misses).await
    }

    /// Asks the sources over the network one after the other, for what `misses` have not got.
    async fn fetch(&self, tenant: &str, want: &Want, mut misses: Vec<Missed>) -> Outcome {
        let _turn = self.turn(tenant).await;
        for source in &self.remote {
            let (kind, name) = (source.kind(), source.name());
            match source.fetch(want, tenant).await {
                Ok(mut found) => {
                    if let Some(cache) = &self.cache {
                        cache.keep(want, &found);
                    }
                    found.place.get_or_insert_with(|| name.to_owned());
                    return Ok(self.deliver(tenant, want, kind, found));
                }
                Err(miss) => {
                    if let ControlFlow::Break(outcome) = self.missed(want, kind, name, miss, &mut misses) {
                        return outcome;
                    }
                }
            }
        }
        Err(ResolveError::from_misses(want.to_string(), misses))
    }

    /// Takes what a shared source delivered into memory.
    fn deliver(&self, tenant: &str, want: &Want, kind: SourceKind, found: Found) -> Arc<Module> {
        self.stats.found(kind, found.module.bytes().len());
        if let Want::Dag(root, _) = want {
            self.hot.learn_root(*root, *found.module.sha256());
        }
        self.hot.keep(tenant, Module::new(&found.module, kind, found.place))
    }

    /// Notes that a source did not deliver. Breaks where no other can.
    fn missed(
        &self,
        want: &Want,
        kind: SourceKind,
        name: &str,
        miss: Miss,
        misses: &mut Vec<Missed>,
    ) -> ControlFlow<Outcome> {
        self.stats.missed(kind, &miss);
        tracing::debug!(%want, source = name, said = miss.said(), "source did not deliver");
        let final_word = matches!(miss, Miss::Invalid(_));
        let left_out = matches!(miss, Miss::LeftOut(_));
        let answer = Answer { source: kind, name: name.to_owned(), said: miss.said().to_owned(), left_out };
        misses.push((miss, answer));
        if final_word {
            let misses = std::mem::take(misses);
            return ControlFlow::Break(Err(ResolveError::from_misses(want.to_string(), misses)));
        }
        ControlFlow::Continue(())
    }

    /// A turn at the network: one of all tenants' together, and one of the tenant's own, so that a tenant that asks
    /// for a thousand modules that nobody has cannot keep the others from theirs.
    async fn turn(&self, tenant: &str) -> [Option<OwnedSemaphorePermit>; 2] {
        let own = {
            let mut tenants = self.tenants.lock();
            match tenants.get(tenant).and_then(Weak::upgrade) {
                Some(own) => own,
                None => {
                    tenants.retain(|_, own| own.strong_count() > 0);
                    let own = Arc::new(Semaphore::new(self.fetches_per_tenant));
                    tenants.insert(tenant.to_owned(), Arc::downgrade(&own));
                    own
                }
            }
        };
        // Neither is ever closed.
        let own = own.acquire_owned().await.ok();
        [own, self.fetches.clone().acquire_owned().await.ok()]
    }
}
