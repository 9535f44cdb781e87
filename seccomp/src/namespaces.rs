//! Namespaces: the flags, the maps of users and groups, and that no further namespace can be made.

use std::fs;
use std::io;

/// User, pid, net, ipc, mount, uts and cgroup.
pub(crate) const ALL: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The user and group outside that 0 inside stands for.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Whether we may choose freely (root). Otherwise they must be our own.
    pub chosen: bool,
}

/// Maps 0 inside process `pid`'s user namespace to `identity`. Called from outside.
pub(crate) fn map_users(pid: i32, identity: Identity) -> io::Result<()> {
    if !identity.chosen {
        // The kernel wants this before an ordinary user may map a group.
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    fs::write(format!("/proc/{pid}/uid_map"), format!("0 {} 1", identity.user))?;
    fs::write(format!("/proc/{pid}/gid_map"), format!("0 {} 1", identity.group))
}

/// Sets the number of namespaces that this user namespace may make to zero, for every kind.
pub(crate) fn forbid_further() -> io::Result<()> {
    for kind in ["user", "pid", "net", "ipc", "mnt", "uts", "cgroup", "time"] {
        fs::write(format!("/proc/sys/user/max_{kind}_namespaces"), "0")?;
    }
    Ok(())
}
