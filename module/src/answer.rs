//! Who was asked for a module, and what each said: the words of a failed resolve and of the metrics.
//!
//! Everything here may be shown to a tenant. So no host path, no text that a remote side chose, no internal address.

use std::fmt;

/// The kinds of source, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// Modules that this tenant uploaded.
    Uploads,
    /// Files beside an FNPM manifest.
    Manifest,
    /// The FNPM cache folder.
    Cache,
    /// A Kubo node's RPC.
    Ipfs,
    /// A trustless HTTP gateway.
    Gateway,
}

impl SourceKind {
    /// All kinds, in asking order.
    pub const ALL: [Self; 5] = [Self::Uploads, Self::Manifest, Self::Cache, Self::Ipfs, Self::Gateway];

    /// The name used in records, logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uploads => "uploads",
            Self::Manifest => "manifest",
            Self::Cache => "cache",
            Self::Ipfs => "ipfs",
            Self::Gateway => "gateway",
        }
    }

    /// Position in [`SourceKind::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one source answered when it did not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The kind of source.
    pub source: SourceKind,
    /// Its name: a gateway's host, a manifest's folder, or the kind again.
    pub name: String,
    /// What it said, as a clause without a full stop.
    pub said: String,
    /// It was not asked, because of what happened before.
    pub left_out: bool,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.said)
    }
}

/// Why a source did not deliver. The variant decides what becomes of the source and of the resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Miss {
    /// It answered, and has no such module.
    Absent(String),
    /// No manifest lists it, as of a look that may have been before the question.
    Unlisted(String),
    /// It cannot be asked, whatever for: it is not there, or says that it has too much to do.
    Down(String),
    /// It did not answer this question: an error status, a broken link, garbage. It may well answer the next one.
    Failed(String),
    /// It let the time pass. Content that nobody has looks the same.
    Silent(String),
    /// It failed shortly before and is given time.
    LeftOut(String),
    /// It delivered bytes that are not the ones asked for.
    Lied(String),
    /// It has more than the bound under that name. Nobody has verified that, so it says nothing of the module.
    TooLarge(String),
    /// A verified fact about the module itself: no other source can help.
    Invalid(String),
}

impl Miss {
    pub(crate) fn said(&self) -> &str {
        match self {
            Self::Absent(said)
            | Self::Unlisted(said)
            | Self::Down(said)
            | Self::Failed(said)
            | Self::Silent(said)
            | Self::LeftOut(said)
            | Self::Lied(said)
            | Self::TooLarge(said)
            | Self::Invalid(said) => said,
        }
    }
}
