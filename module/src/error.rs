//! The crate's errors. Each text may be shown to a tenant and says what to do; none holds a host path.

use crate::answer::{Answer, Miss, SourceKind};
use void_api::Reason;

/// The configuration cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SupplyError {
    /// An address does not parse.
    #[error("{variable}: {value:?} is not usable: give {accepted}")]
    BadAddress {
        /// The variable it came from.
        variable: &'static str,
        /// What it says.
        value: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// The uploads folder in the state folder cannot be made or read.
    #[error(
        "the uploads folder in WASM_STATE_DIR cannot be used ({0}): make the state folder writable for the service"
    )]
    State(std::io::ErrorKind),
    /// The threads that fetch and read could not be started.
    #[error("the threads that fetch modules cannot be started ({0}): raise the limit on threads")]
    Threads(std::io::ErrorKind),
}

/// A target did not become verified bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No source has it.
    #[error("no source has {what} ({}): upload it, or name a source that has it", list(.answers))]
    NotFound {
        /// The target, as it was asked for.
        what: String,
        /// What each source said.
        answers: Vec<Answer>,
    },
    /// Bytes were offered, and they are not the ones named; no other source had the right ones.
    #[error("the bytes found for {what} are not the ones it names ({}): publish it again or remove them", list(.answers))]
    Unverified {
        /// The target, as it was asked for.
        what: String,
        /// What each source said.
        answers: Vec<Answer>,
    },
    /// Two manifest entries give different modules for one AST hash.
    #[error("{what} is ambiguous: {first}, but {second}: make the manifests agree or name the module by CID")]
    Ambiguous {
        /// The target.
        what: String,
        /// The first entry and its module.
        first: String,
        /// The second entry and its module.
        second: String,
    },
    /// Verified blocks say that it is no module that this service runs: too large, not a file, out of bounds.
    #[error("{what} is refused ({}): use a module within the bounds", list(.answers))]
    Invalid {
        /// The target, as it was asked for.
        what: String,
        /// What each source said.
        answers: Vec<Answer>,
    },
    /// A fault of the service.
    #[error("{what} could not be looked for, by a fault of the service: try again")]
    Internal {
        /// The target.
        what: String,
    },
}

impl ResolveError {
    /// The reason that the run's record carries.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } => Reason::ModuleNotFound,
            Self::Unverified { .. } | Self::Ambiguous { .. } => Reason::ModuleUnverified,
            Self::Invalid { .. } => Reason::ModuleInvalid,
            Self::Internal { .. } => Reason::Internal,
        }
    }

    /// What each source that was asked said.
    pub fn answers(&self) -> &[Answer] {
        match self {
            Self::NotFound { answers, .. }
            | Self::Unverified { answers, .. }
            | Self::Invalid { answers, .. } => answers,
            Self::Ambiguous { .. } | Self::Internal { .. } => &[],
        }
    }
}

impl ResolveError {
    /// The conclusion from what the sources said. That bytes were offered and were wrong outweighs that the others
    /// had none; a module that verified blocks refuse outweighs both. That a source has too much under that name is its
    /// word alone, and as good as nothing.
    pub(crate) fn from_misses(what: String, misses: Vec<(Miss, Answer)>) -> Self {
        let any = |is: fn(&Miss) -> bool| misses.iter().any(|(miss, _)| is(miss));
        let invalid = any(|miss| matches!(miss, Miss::Invalid(_)));
        let lied = any(|miss| matches!(miss, Miss::Lied(_)));
        let answers = misses.into_iter().map(|(_, answer)| answer).collect();
        match (invalid, lied) {
            (true, _) => Self::Invalid { what, answers },
            (false, true) => Self::Unverified { what, answers },
            (false, false) => Self::NotFound { what, answers },
        }
    }

    /// Puts the uploads' answer before those of the shared sources.
    pub(crate) fn after_uploads(self, miss: Miss) -> Self {
        let uploads = Answer {
            source: SourceKind::Uploads,
            name: "uploads".to_owned(),
            said: miss.said().to_owned(),
            left_out: false,
        };
        let join = |answers: Vec<Answer>| std::iter::once(uploads).chain(answers).collect();
        match self {
            Self::NotFound { what, answers } if matches!(miss, Miss::Lied(_)) => {
                Self::Unverified { what, answers: join(answers) }
            }
            Self::NotFound { what, answers } => Self::NotFound { what, answers: join(answers) },
            Self::Unverified { what, answers } => Self::Unverified { what, answers: join(answers) },
            Self::Invalid { what, answers } => Self::Invalid { what, answers: join(answers) },
            other => other,
        }
    }

    /// What was not found, as it was asked for.
    pub(crate) fn what(&self) -> &str {
        match self {
            Self::NotFound { what, .. }
            | Self::Unverified { what, .. }
            | Self::Ambiguous { what, .. }
            | Self::Invalid { what, .. }
            | Self::Internal { what } => what,
        }
    }

    /// Says by which name the module was asked for.
    pub(crate) fn named(mut self, name: String) -> Self {
        match &mut self {
            Self::NotFound { what, .. }
            | Self::Unverified { what, .. }
            | Self::Ambiguous { what, .. }
            | Self::Invalid { what, .. }
            | Self::Internal { what } => *what = name,
        }
        self
    }
}

fn list(answers: &[Answer]) -> String {
    if answers.is_empty() {
        return "no source is configured".to_owned();
    }
    answers.iter().map(Answer::to_string).collect::<Vec<_>>().join("; ")
}

/// An upload was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// Larger than FNPM_MAX_FILE_SIZE.
    #[error("the module has {size} bytes and at most {max} are accepted: upload a smaller one")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// The tenant's uploads would pass its quota.
    #[error(
        "the module needs {needed} bytes and {left} of the {quota} for uploads are left: publish it by CID instead"
    )]
    Quota {
        /// What it would count for.
        needed: u64,
        /// What is left.
        left: u64,
        /// The quota.
        quota: u64,
    },
    /// The disk refused it.
    #[error("the module could not be stored ({0}): try again later")]
    Io(std::io::ErrorKind),
    /// A fault of the service.
    #[error("the module could not be stored, by a fault of the service: try again")]
    Internal,
}
