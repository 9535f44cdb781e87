//! The parts of the settings, each with its variables, defaults, units and ranges.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use url::Url;
use void_api::CallKind;

use super::read::{Reader, items, path};
use crate::admission::Share;
use crate::allowlist::Allowlist;
use crate::rate::Rate;

const HOUR_MS: u64 = 3_600_000;

/// Whether runs execute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Switches {
    /// `WASM_EXEC_ENABLED`, 0 or 1, default 0: the master switch.
    pub enabled: bool,
    /// `WASM_EXEC_FREEZE`, 0 or 1, default 0: accept, do not execute.
    pub freeze: bool,
    /// `WASM_EXEC_CANARY`, 0 to 1, default 0.05: the share of runs that execute.
    pub canary: Share,
}

impl Switches {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let canary = Share::new(0.05).unwrap_or(Share::NONE);
        let share = |text: &str| text.parse().ok().and_then(Share::new);
        Self {
            enabled: reader.switch("WASM_EXEC_ENABLED"),
            freeze: reader.switch("WASM_EXEC_FREEZE"),
            canary: reader.value("WASM_EXEC_CANARY", canary, "a number from 0 to 1", share),
        }
    }
}

/// What one run may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// `WASM_MEM_PAGES_MAX`, 1 to 65,536, default 256: pages of 64 KiB, all memories together. The upper end is the 4 GiB
    /// of a 32-bit memory.
    pub mem_pages: u32,
    /// `WASM_CPU_MS_BUDGET`, 1 to 3,600,000 (an hour), default 200: CPU time of the guest, milliseconds.
    pub cpu_ms: u64,
    /// `WASM_WALL_MS_BUDGET`, 1 to 3,600,000 (an hour), default 1000: from start to end of execution, milliseconds.
    pub wall_ms: u64,
    /// `WASM_SYSCALL_MAX`, 0 to 1,000,000,000, default 1000: gateway calls of one run.
    pub syscalls_max: u32,
    /// `WASM_SYSCALL_RPS`, 1 to 1,000,000, default 500: gateway calls of one run in a second.
    pub syscalls_rps: u32,
    /// `WASM_OUTPUT_MAX_BYTES`, 0 to 1,048,576, default 65,536: bytes of stdout and of stderr that are kept. The upper end
    /// keeps records of a size that can be listed.
    pub output_max_bytes: u32,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            mem_pages: reader.number("WASM_MEM_PAGES_MAX", 256, 1..=65_536),
            cpu_ms: reader.number("WASM_CPU_MS_BUDGET", 200, 1..=HOUR_MS),
            wall_ms: reader.number("WASM_WALL_MS_BUDGET", 1000, 1..=HOUR_MS),
            syscalls_max: reader.number("WASM_SYSCALL_MAX", 1000, 0..=1_000_000_000),
            syscalls_rps: reader.number("WASM_SYSCALL_RPS", 500, 1..=1_000_000),
            output_max_bytes: reader.number("WASM_OUTPUT_MAX_BYTES", 65_536, 0..=1_048_576),
        }
    }
}

/// `WASM_CAPS`, a comma list of `emit`, `http` and `kv`, default `emit`: the kinds of gateway call that are granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// `emit`
    pub emit: bool,
    /// `http.fetch`
    pub http: bool,
    /// `kv.get`, `kv.set`, `kv.delete`
    pub kv: bool,
}

impl Caps {
    /// `None` where a word is none of the three.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        items(text).try_fold(Self::default(), |caps, word| match word {
            "emit" => Some(Self { emit: true, ..caps }),
            "http" => Some(Self { http: true, ..caps }),
            "kv" => Some(Self { kv: true, ..caps }),
            _ => None,
        })
    }

    /// Whether calls of this kind are granted.
    #[must_use]
    pub const fn grant(self, kind: CallKind) -> bool {
        match kind {
            CallKind::Emit => self.emit,
            CallKind::HttpFetch => self.http,
            CallKind::KvGet | CallKind::KvSet | CallKind::KvDelete => self.kv,
        }
    }

    /// The granted words.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [(self.emit, "emit"), (self.http, "http"), (self.kv, "kv")]
            .into_iter()
            .filter_map(|(granted, word)| granted.then_some(word))
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().collect::<Vec<_>>().join(","))
    }
}

impl Serialize for Caps {
    /// A list of the granted words.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.words())
    }
}

/// What a guest may ask the gateway for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// The kinds of call.
    pub caps: Caps,
    /// The terms of `http.fetch`.
    pub http: HttpGrant,
    /// The terms of `kv.*`.
    pub kv: KvGrant,
}

/// The terms of `http.fetch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpGrant {
    /// `WASM_HTTP_ALLOWLIST`, default empty: see [`Allowlist`].
    pub allowlist: Allowlist,
    /// `WASM_HTTP_RPS`, 0.001 to 1,000,000, default 2: requests a second, for each tenant and host.
    pub rps: Rate,
    /// `WASM_HTTP_BURST`, 1 to 1,000,000, default 4: requests at once, for each tenant and host.
    pub burst: u32,
    /// `WASM_HTTP_MAX_BYTES`, 0 to 16,777,216, default 131,072: response body after decompression. Each run that fetches
    /// may hold so much in the service's memory, which is what the upper end is for.
    pub max_bytes: u32,
}

/// The terms of `kv.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KvGrant {
    /// `WASM_KV_MAX_KEYS`, 0 to 10,000,000, default 100: keys of each namespace.
    pub max_keys: u32,
    /// `WASM_KV_MAX_VALUE_BYTES`, 0 to 131,072, default 4096: bytes of each value. The upper end is what a reply to a worker
    /// has room for.
    pub max_value_bytes: u32,
}

impl Grants {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let caps = Caps { emit: true, ..Caps::default() };
        let hosts = "a comma separated list of host, host:port and *.host";
        Self {
            caps: reader.value("WASM_CAPS", caps, "a comma separated list of emit, http and kv", Caps::parse),
            http: HttpGrant {
                allowlist: reader.value("WASM_HTTP_ALLOWLIST", Allowlist::default(), hosts, |text| {
                    Allowlist::parse(text).ok()
                }),
                rps: reader.value(
                    "WASM_HTTP_RPS",
                    Rate::from(2),
                    format_args!("a number from {} to {}", Rate::SLOWEST, Rate::FASTEST),
                    Rate::parse,
                ),
                burst: reader.number("WASM_HTTP_BURST", 4, 1..=1_000_000),
                max_bytes: reader.number("WASM_HTTP_MAX_BYTES", 131_072, 0..=16_777_216),
            },
            kv: KvGrant {
                max_keys: reader.number("WASM_KV_MAX_KEYS", 100, 0..=10_000_000),
                max_value_bytes: reader.number("WASM_KV_MAX_VALUE_BYTES", 4096, 0..=131_072),
            },
        }
    }
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The operating system has the data: a crash of this service loses nothing, a power cut may.
    Normal,
    /// The disk has it.
    Full,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Full => "full",
        })
    }
}

/// What survives, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// `WASM_STATE_DIR`, default `$STATE_DIRECTORY` (the first, where systemd gives several), else `./.void-wasm`.
    pub dir: PathBuf,
    /// `WASM_DURABILITY`, `normal` or `full`, default `normal`.
    pub durability: Durability,
}

impl State {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let from_systemd =
            reader.text("STATE_DIRECTORY").and_then(|dirs| path(dirs.split(':').next()?, None));
        let default = from_systemd.unwrap_or_else(|| PathBuf::from("./.void-wasm"));
        Self {
            dir: reader.path("WASM_STATE_DIR", default),
            durability: reader.word(
                "WASM_DURABILITY",
                Durability::Normal,
                &[Durability::Normal, Durability::Full],
            ),
        }
    }
}

/// What one process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// One run.
    Run,
    /// One tenant's runs of one module, each with a new instance.
    Module,
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "run",
            Self::Module => "module",
        })
    }
}

/// How many runs at once, and how they are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Work {
    /// `WASM_WORKERS`, 1 to 4096, default four for each core: runs at once; a guest that waits holds one.
    pub workers: u32,
    /// `WASM_QUEUE_MAX`, 0 to 1,000,000, default 1024: runs waiting.
    pub queue_max: u32,
    /// `WASM_ISOLATION`, `run` or `module`, default `run`.
    pub isolation: Isolation,
    /// `WASM_ALLOW_WEAKER_ISOLATION`, 0 or 1, default 0: start although the kernel refuses a layer.
    pub allow_weaker_isolation: bool,
}

impl Work {
    const WORKERS_MAX: u32 = 4096;

    pub(super) fn read(reader: &mut Reader, cores: usize) -> Self {
        let default = u32::try_from(cores.saturating_mul(4)).unwrap_or(u32::MAX).clamp(1, Self::WORKERS_MAX);
        Self {
            workers: reader.number("WASM_WORKERS", default, 1..=Self::WORKERS_MAX),
            queue_max: reader.number("WASM_QUEUE_MAX", 1024, 0..=1_000_000),
            isolation: reader.word("WASM_ISOLATION", Isolation::Run, &[Isolation::Run, Isolation::Module]),
            allow_weaker_isolation: reader.switch("WASM_ALLOW_WEAKER_ISOLATION"),
        }
    }
}

/// Ended runs kept: the newest `runs`, and of these none older than `hours`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// `WASM_RUNS_KEEP`, 1 to 1,000,000,000, default 1,000,000.
    pub runs: u64,
    /// `WASM_RUNS_KEEP_HOURS`, 1 to 876,000 (a hundred years), default 168.
    pub hours: u32,
}

impl Retention {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            runs: reader.number("WASM_RUNS_KEEP", 1_000_000, 1..=1_000_000_000),
            hours: reader.number("WASM_RUNS_KEEP_HOURS", 168, 1..=876_000),
        }
    }
}

/// Where modules come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supply {
    /// `FNPM_MANIFEST_DIRS`, default `./chimera-output`: directories that hold `manifest.json` files.
    pub manifest_dirs: Vec<PathBuf>,
    /// `FNPM_CACHE_DIR`, default `~/.fnpm/cache/wasm`, or `fnpm-cache` in the state directory where there is no home.
    pub cache_dir: PathBuf,
    /// `FNPM_IPFS_API`, default none: a Kubo RPC address such as `http://127.0.0.1:5001` or `/ip4/127.0.0.1/tcp/5001`.
    pub ipfs_api: Option<Url>,
    /// `FNPM_HTTP_GATEWAYS`, default `https://ipfs.io`: trustless gateways; empty turns them off.
    pub http_gateways: Vec<Url>,
    /// `FNPM_FETCH_TIMEOUT_MS`, 1 to 600,000, default 5000: one fetch, milliseconds.
    pub fetch_timeout_ms: u64,
    /// `FNPM_MAX_FILE_SIZE`, 1 to 536,870,912, default 52,428,800: one module, bytes.
    pub max_file_size: u64,
}

impl Supply {
    pub(super) fn read(reader: &mut Reader, state_dir: &Path) -> Self {
        let cache =
            reader.home().map_or_else(|| state_dir.join("fnpm-cache"), |home| home.join(".fnpm/cache/wasm"));
        Self {
            manifest_dirs: reader.paths("FNPM_MANIFEST_DIRS", vec![PathBuf::from("./chimera-output")]),
            cache_dir: reader.path("FNPM_CACHE_DIR", cache),
            ipfs_api: reader.optional_url("FNPM_IPFS_API"),
            http_gateways: reader.urls("FNPM_HTTP_GATEWAYS", "https://ipfs.io"),
            fetch_timeout_ms: reader.number("FNPM_FETCH_TIMEOUT_MS", 5000, 1..=600_000),
            max_file_size: reader.number("FNPM_MAX_FILE_SIZE", 52_428_800, 1..=512 * 1024 * 1024),
        }
    }
}
