//! The kernel syscall filters, as data with reasons. Whatever is not listed kills the process.
//!
//! The same in debug and release. `docs/isolation.md` prints these tables, and a test holds the page equal to them. That
//! each rule is still needed is not tested yet.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::sys;

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

/// What a zygote needs beside [`RUN`].
pub const ZYGOTE_EXTRA: &[Rule] = &[
    rule(
        libc::SYS_recvmsg,
        "recvmsg",
        &[(0, Width::Int, 3), (2, Width::Int, libc::MSG_CMSG_CLOEXEC as u64)],
        "orders to fork come with the run's socket",
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
    rule(libc::SYS_close, "close", &[], "the run's socket is not the zygote's to keep"),
    rule(
        libc::SYS_prctl,
        "prctl",
        &[(0, Width::Int, libc::PR_SET_NAME as u64)],
        "a run process is called void-run",
    ),
    rule(
        libc::SYS_seccomp,
        "seccomp",
        &[(0, Width::Int, 1), (1, Width::Int, 0)],
        "a run process takes on its own, narrower filter",
    ),
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
    rule(libc::SYS_rt_sigreturn, "rt_sigreturn", &[], "the end of CPU time is a signal"),
    rule(libc::SYS_exit_group, "exit_group", &[], "the end"),
];

/// A filter ready to be installed: building one takes longer than installing it.
#[derive(Debug)]
pub struct Filter(BpfProgram);

impl Filter {
    /// Makes a filter of `rules`; anything else kills the process.
    ///
    /// # Errors
    /// The compiler's of the filter, for rules that cannot be expressed.
    pub fn of(rules: &[&[Rule]]) -> Result<Filter, BackendError> {
        let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for rule in rules.iter().copied().flatten() {
            let conditions = rule
                .arguments
                .iter()
                .map(|(position, width, value)| {
                    let width = match width {
                        Width::Int => SeccompCmpArgLen::Dword,
                        Width::Long => SeccompCmpArgLen::Qword,
                    };
                    SeccompCondition::new(*position, width, SeccompCmpOp::Eq, *value)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let alternatives = allowed.entry(rule.syscall).or_default();
            if !conditions.is_empty() {
                alternatives.push(SeccompRule::new(conditions)?);
            }
        }
        let filter = SeccompFilter::new(
            allowed,
            SeccompAction::KillProcess,
            SeccompAction::Allow,
            TargetArch::x86_64,
        )?;
        Ok(Filter(filter.try_into()?))
    }

    /// Installs it on this thread, for good.
    ///
    /// # Errors
    /// The kernel's, without no_new_privs.
    pub fn install(&self) -> std::io::Result<()> {
        sys::install_filter(&self.0)
    }
}
