//! Module supply: from a target (CID, AST hash, sha256 of the bytes) to bytes that were verified against it.
//!
//! Holds the sources (uploads, manifests, the cache folder, a Kubo node, trustless gateways), the checks that
//! every byte from any of them passes, and what makes repeated resolves cheap. Must not enter: anything that looks
//! *into* a module. The bytes are hostile and opaque here; parsing them is the compiler process's work.
//!
//! A resolve goes, until one has it: memory → the tenant's uploads → files beside a manifest → the cache folder → the
//! Kubo node → the gateways in their order. An AST hash first becomes a CID, through the manifests alone.
//!
//! The types carry the rule that nothing unverified leaves: a [`Module`] is only made from bytes whose
//! constructor compared their hash (`verify.rs`), so a source cannot hand out anything else by mistake.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod answer;
mod buffer;
mod cache;
mod car;
mod config;
mod cooling;
mod error;
mod files;
mod flight;
mod hot;
mod manifest;
mod readers;
mod remote;
mod source;
mod stats;
mod supply;
mod unixfs;
mod uploads;
mod varint;
mod verify;
mod want;

pub use answer::{Answer, SourceKind};
pub use config::SupplyConfig;
pub use error::{ResolveError, SupplyError, UploadError};
pub use stats::{SourceStats, StatsSnapshot};
pub use supply::{Module, Supply};
pub use uploads::Stored;
