//! What the operator chose: folders, addresses and bounds. Values only; nothing here is opened or asked.

use std::path::PathBuf;
use std::time::Duration;

/// How a [`crate::Supply`] is set up. [`SupplyConfig::new`] fills in the service's defaults.
#[derive(Debug, Clone)]
pub struct SupplyConfig {
    /// State folder; uploads are kept in its `modules` subfolder.
    pub state_dir: PathBuf,
    /// Folders that hold `manifest.json`, in themselves or one level below (`FNPM_MANIFEST_DIRS`).
    pub manifest_dirs: Vec<PathBuf>,
    /// The FNPM module cache (`FNPM_CACHE_DIR`); `None` keeps nothing on disk between restarts.
    pub cache_dir: Option<PathBuf>,
    /// A Kubo RPC address, as a URL (`FNPM_IPFS_API`).
    pub ipfs_api: Option<String>,
    /// Trustless gateways, asked in this order (`FNPM_HTTP_GATEWAYS`).
    pub gateways: Vec<String>,
    /// The longest that one source may take over one module (`FNPM_FETCH_TIMEOUT_MS`).
    pub fetch_timeout: Duration,
    /// The largest module, in bytes, from any source and by upload (`FNPM_MAX_FILE_SIZE`).
    pub max_file_size: u64,
    /// Bytes that the cache folder may hold before the least recently used files go.
    pub cache_max_bytes: u64,
    /// Bytes of verified modules kept in memory.
    pub hot_max_bytes: u64,
    /// Bytes of uploads that one tenant may keep; each counts as whole 4 KiB blocks.
    pub upload_quota: u64,
    /// How old the view of the manifest folders may be before they are looked at again.
    pub manifest_recheck: Duration,
    /// Modules fetched from the network at once, over all tenants.
    pub fetches: usize,
    /// Of these, modules that one tenant may have under way.
    pub fetches_per_tenant: usize,
}

impl SupplyConfig {
    /// The defaults, with no manifest folder, no cache and no network source: those are the operator's to name.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            manifest_dirs: Vec::new(),
            cache_dir: None,
            ipfs_api: None,
            gateways: Vec::new(),
            fetch_timeout: Duration::from_millis(5000),
            max_file_size: 52_428_800,
            cache_max_bytes: 4 << 30,
            hot_max_bytes: 256 << 20,
            upload_quota: 1 << 30,
            manifest_recheck: Duration::from_millis(100),
            fetches: 16,
            fetches_per_tenant: 4,
        }
    }
}
