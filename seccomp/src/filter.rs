//! The kernel syscall filters, as data with reasons. Whatever is not listed kills the process.
//!
//! The same in debug and release. `docs/isolation.md` prints these tables, and a test holds the page equal to them.
//! `tests/guard.rs` shows that each rule of RUN, ZYGOTE and TIE is needed; that REUSE's are was seen by taking them away by hand;
//! COMPILER's and WASI's are not tested so.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use void_ipc::message::{Layer, Refused};

use crate::sys::{self, Secret};

/// One allowed kernel syscall.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its number.
    pub syscall: i64,
    /// Its name, for people.
    pub name: &'static str,
    /// What its arguments must be: position, width, value.
    pub arguments: &'static [(u8, Width, u64)],
    /// Why it is needed.
    pub reason: &'static str,
}

/// How much of an argument the kernel looks at.
#[derive(Debug, Clone, Copy)]
pub enum Width {
    /// 32 bits: descriptors, flags.
    Int,
    /// 64 bits.
    Long,
}

const fn rule(
    syscall: i64,
    name: &'static str,
    arguments: &'static [(u8, Width, u64)],
    reason: &'static str,
) -> Rule {
    Rule { syscall, name, arguments, reason }
}

const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const PRIVATE_ANONYMOUS: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;

/// A run process: five kernel syscalls.
pub const RUN: &[Rule] = &[
    rule(
        libc::SYS_read,
        "read",
        &[(0, Width::Int, 3)],
        "the request and the answers to gateway calls come by the socket",
    ),
    rule(
        libc::SYS_write,
        "write",
        &[(0, Width::Int, 3)],
        "the end of the run and gateway calls go by the socket",
    ),
    rule(
        libc::SYS_rt_sigreturn,
        "rt_sigreturn",
        &[],
        "a guest's trap is a signal, whose handler must return",
    ),
    rule(
        libc::SYS_mprotect,
        "mprotect",
        &[(2, Width::Long, READ_WRITE)],
        "memory.grow makes reserved pages usable, never executable",
    ),
    rule(libc::SYS_exit_group, "exit_group", &[], "the end"),
];

/// What a run process of a module that imports WASI has beside [`RUN`]. Where the kernel keeps its clock so that programs can read
/// it by themselves, which is usual on hardware and in virtual machines, none of it is called.
pub const WASI: &[Rule] = &[
    rule(
        libc::SYS_clock_gettime,
        "clock_gettime",
        &[(0, Width::Int, 0)],
        "the time of day, where the machine's clock cannot be read without the kernel",
    ),
    rule(
        libc::SYS_clock_gettime,
        "clock_gettime",
        &[(0, Width::Int, 1)],
        "the monotonic clock, for the same reason",
    ),
];

/// What a run process has beside [`RUN`] where it serves one run after the other (`WASM_ISOLATION=module`): what the last
/// instance left of its memory is thrown away.
pub const REUSE: &[Rule] = &[
    rule(
        libc::SYS_mprotect,
        "mprotect",
        &[(2, Width::Long, libc::PROT_NONE as u64)],
        "what the last instance's memory has grown by is not the next one's",
    ),
    rule(
        libc::SYS_madvise,
        "madvise",
        &[(2, Width::Int, libc::MADV_DONTNEED as u64)],
        "pages that the last instance has written are thrown away",
    ),
];

/// What a zygote needs beside [`RUN`]. All of it is guarded: it is allowed to whoever has the zygote's secret, which a run
/// process has not (see [`crate::Secret`]).
pub const ZYGOTE: &[Rule] = &[
    rule(
        libc::SYS_recvmsg,
        "recvmsg",
        &[(0, Width::Int, 3), (2, Width::Int, libc::MSG_CMSG_CLOEXEC as u64)],
        "orders to fork come with the runs' sockets",
    ),
    rule(
        libc::SYS_clone,
        "clone",
        &[(0, Width::Long, libc::SIGCHLD as u64)],
        "a run process is a plain fork: no thread, no namespace",
    ),
    rule(
        libc::SYS_wait4,
        "wait4",
        &[(0, Width::Int, u32::MAX as u64), (2, Width::Int, libc::WNOHANG as u64)],
        "run processes are reaped and their CPU time reported",
    ),
    rule(
        libc::SYS_dup2,
        "dup2",
        &[(1, Width::Int, 3)],
        "a run process puts its socket in the place of the zygote's",
    ),
    rule(
        libc::SYS_close_range,
        "close_range",
        &[(0, Width::Int, 4), (1, Width::Int, u32::MAX as u64), (2, Width::Int, 0)],
        "the other runs' sockets are not a run's to know, nor the zygote's to keep",
    ),
    rule(
        libc::SYS_prctl,
        "prctl",
        &[(0, Width::Int, libc::PR_SET_NAME as u64)],
        "a run process is called void-run",
    ),
];

/// What a zygote needs beside [`ZYGOTE`] where it was refused a pid namespace, whose end would end its run processes with it
/// (`WASM_ALLOW_WEAKER_ISOLATION=1`). Guarded too.
pub const TIE: &[Rule] = &[
    rule(
        libc::SYS_prctl,
        "prctl",
        &[(0, Width::Int, libc::PR_SET_PDEATHSIG as u64), (1, Width::Long, libc::SIGKILL as u64)],
        "a run process dies with its zygote",
    ),
    rule(libc::SYS_getppid, "getppid", &[], "one whose zygote died just before ends by itself"),
];

/// A compiler.
pub const COMPILER: &[Rule] = &[
    rule(libc::SYS_write, "write", &[(0, Width::Int, 3)], "what the module is, or why it is refused"),
    rule(libc::SYS_write, "write", &[(0, Width::Int, 4)], "the machine code"),
    rule(libc::SYS_brk, "brk", &[], "memory for the work"),
    rule(
        libc::SYS_mmap,
        "mmap",
        &[(2, Width::Long, READ_WRITE), (3, Width::Long, PRIVATE_ANONYMOUS)],
        "memory for the work, never executable, never a file",
    ),
    rule(libc::SYS_munmap, "munmap", &[], "memory given back"),
    rule(
        libc::SYS_mremap,
        "mremap",
        &[(3, Width::Int, libc::MREMAP_MAYMOVE as u64)],
        "large vectors grow in place",
    ),
    rule(
        libc::SYS_clock_gettime,
        "clock_gettime",
        &[(0, Width::Int, 1)],
        "it measures its own stages; called only where the machine's clock cannot be read without the kernel",
    ),
    rule(libc::SYS_rt_sigreturn, "rt_sigreturn", &[], "the end of CPU time is a signal"),
    rule(libc::SYS_exit_group, "exit_group", &[], "the end"),
];

/// The argument that no allowed kernel syscall uses, the sixth.
const GUARD_POSITION: u8 = 5;
/// Stands in a program for the secret until the moment of its installation.
const PLACEHOLDER: u64 = 0x7a3c_95e1_d04b_268f;
/// `BPF_JMP | BPF_JEQ | BPF_K`: compares with a constant.
const COMPARE: u16 = 0x15;

/// Why a filter could not be made or installed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The rules cannot be expressed.
    #[error("the filter cannot be expressed: {0}")]
    Rules(#[from] BackendError),
    /// The program does not compare with the secret as often as there are guarded rules.
    #[error("the filter does not ask for the secret where it should")]
    Unguarded,
    /// The kernel's, without no_new_privs for one.
    #[error("the filter cannot be installed: {0}")]
    Install(#[from] std::io::Error),
}

impl From<FilterError> for Refused {
    fn from(error: FilterError) -> Refused {
        Refused { layer: Layer::Seccomp, detail: error.to_string() }
    }
}

/// A filter ready to be installed.
#[derive(Debug)]
pub struct Filter<'a> {
    program: BpfProgram,
    secret: Option<&'a Secret>,
}

impl Filter<'_> {
    /// Makes a filter of `rules`; anything else kills the process.
    ///
    /// # Errors
    /// Where the rules cannot be expressed.
    pub fn of(rules: &[Rule]) -> Result<Filter<'static>, FilterError> {
        Ok(Filter { program: program(rules, &[])?, secret: None })
    }

    /// Makes a filter that allows `free` to everyone, and `guarded` to whoever shows the secret; anything else kills the
    /// process. No kernel syscall is in both.
    ///
    /// # Errors
    /// Where the rules cannot be expressed.
    pub fn guarded<'a>(
        free: &[Rule],
        guarded: &[Rule],
        secret: &'a Secret,
    ) -> Result<Filter<'a>, FilterError> {
        let program = program(free, guarded)?;
        let count = |half: u32| program.iter().filter(|one| one.code == COMPARE && one.k == half).count();
        if count(low()) != guarded.len() || count(high()) != guarded.len() {
            return Err(FilterError::Unguarded);
        }
        Ok(Filter { program, secret: Some(secret) })
    }

    /// Installs it on this thread, for good. Nothing of the secret stays in the program's memory.
    ///
    /// # Errors
    /// The kernel's, without no_new_privs.
    pub fn install(mut self) -> Result<(), FilterError> {
        let mut places = Vec::new();
        if let Some(secret) = self.secret {
            for (place, one) in self.program.iter_mut().enumerate().filter(|(_, one)| one.code == COMPARE) {
                let is_high = one.k == high();
                if is_high || one.k == low() {
                    secret.write_half(is_high, &mut one.k);
                    places.push(place);
                }
            }
        }
        let installed = sys::install_filter(&self.program);
        for place in places {
            if let Some(one) = self.program.get_mut(place) {
                sys::wipe(&mut one.k);
            }
        }
        Ok(installed?)
    }
}

const fn low() -> u32 {
    PLACEHOLDER as u32
}

const fn high() -> u32 {
    (PLACEHOLDER >> 32) as u32
}

fn program(free: &[Rule], guarded: &[Rule]) -> Result<BpfProgram, BackendError> {
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let rules = free.iter().map(|rule| (rule, false)).chain(guarded.iter().map(|rule| (rule, true)));
    for (rule, guarded) in rules {
        let mut conditions = Vec::new();
        for (position, width, value) in rule.arguments {
            let width = match width {
                Width::Int => SeccompCmpArgLen::Dword,
                Width::Long => SeccompCmpArgLen::Qword,
            };
            conditions.push(SeccompCondition::new(*position, width, SeccompCmpOp::Eq, *value)?);
        }
        if guarded {
            let guard = (SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, PLACEHOLDER);
            conditions.push(SeccompCondition::new(GUARD_POSITION, guard.0, guard.1, guard.2)?);
        }
        let alternatives = allowed.entry(rule.syscall).or_default();
        if !conditions.is_empty() {
            alternatives.push(SeccompRule::new(conditions)?);
        }
    }
    SeccompFilter::new(allowed, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?
        .try_into()
}
