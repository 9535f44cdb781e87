//! The closed sets of words that stand in labels.

use void_api::{Mode, Reason, Status};
use void_policy::judge::Rule;

macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of declaration.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word in labels.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

pub(super) use words;

words! {
    /// What a worker process is.
    Role {
        /// Makes the others.
        Spawner = "spawner",
        /// Forks the runs of one module.
        Zygote = "zygote",
        /// Executes one run.
        Run = "run",
        /// Compiles one module.
        Compiler = "compiler",
    }
}

words! {
    /// What a worker process does.
    Doing {
        /// Getting ready, or ready and without work.
        Idle = "idle",
        /// At work.
        Busy = "busy",
    }
}

words! {
    /// Why a worker process ended.
    Cause {
        /// By itself.
        Exit = "exit",
        /// By us, at a limit or a cancel.
        Killed = "killed",
        /// By a signal that nobody here sent.
        Crashed = "crashed",
        /// By its filter: it tried a kernel syscall that it does not have.
        Seccomp = "seccomp",
        /// By us, because it was not needed any more.
        Retired = "retired",
    }
}

words! {
    /// Where machine code came from.
    CodeSource {
        /// Memory.
        Hit = "hit",
        /// A file of an earlier time.
        Disk = "disk",
        /// A compiler.
        Miss = "miss",
    }
}

words! {
    /// What became of a file of machine code.
    CodeFile {
        /// Written.
        Written = "written",
        /// Removed, because it failed its check.
        Rejected = "rejected",
        /// Removed, because there was more than may be kept.
        Evicted = "evicted",
        /// Neither written nor read: the disk did not take part.
        Failed = "failed",
    }
}

/// The reasons that are limits.
pub(super) const LIMITS: &[Reason] = &[
    Reason::CpuBudget,
    Reason::WallBudget,
    Reason::Memory,
    Reason::Stack,
    Reason::SyscallBudget,
    Reason::Output,
    Reason::CompileBudget,
];

/// Where a limit stands in [`LIMITS`].
pub(super) fn limit_index(reason: Reason) -> Option<usize> {
    LIMITS.iter().position(|limit| *limit == reason)
}

/// What can be granted, see [`void_api::CallKind::cap`].
pub(super) const CAPS: &[&str] = &["emit", "http", "kv"];

/// Whether that rule can refuse a call of that cap.
pub(crate) fn refuses(cap: &str, rule: Rule) -> bool {
    match rule {
        Rule::CapMissing | Rule::CallBudget | Rule::CallRate | Rule::TooLarge => true,
        Rule::EmitBudget => cap == "emit",
        Rule::BadName => cap != "http",
        Rule::KeysFull | Rule::NamespacesFull => cap == "kv",
        Rule::HostRate
        | Rule::BadUrl
        | Rule::Scheme
        | Rule::UserInfo
        | Rule::HostNotAllowed
        | Rule::AddressNotPublic
        | Rule::TooManyRedirects
        | Rule::Method
        | Rule::Header
        | Rule::BadHeader
        | Rule::Secret => cap == "http",
    }
}

/// Whether a run admitted in that mode can end with that status.
pub(super) const fn ends(status: Status, mode: Mode) -> bool {
    match mode {
        Mode::Live | Mode::Canary | Mode::DryRun => {
            matches!(status, Status::Finished | Status::Error | Status::Cancelled)
        }
        Mode::Frozen => matches!(status, Status::Frozen),
        Mode::Cached => false,
    }
}

/// The words of a whole set.
pub(super) fn of<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|one| word(*one)).collect()
}
