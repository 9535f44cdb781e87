//! The empty root: a read-only, no-exec tmpfs with nothing in it, and no way back.

use std::io;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

/// Where the new root is mounted before it becomes the root: a directory that every Linux has.
const STAGE: &str = "/proc";

/// Replaces this mount namespace's root by an empty one.
///
/// # Errors
/// The kernel's, naming the step.
pub fn empty_root() -> Result<(), (&'static str, io::Error)> {
    let nothing: Option<&str> = None;
    let step = |name: &'static str| move |errno: nix::errno::Errno| (name, io::Error::from(errno));
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(step("making mounts private"))?;
    let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("none"), STAGE, Some("tmpfs"), flags, Some("size=0,nr_inodes=2,mode=555"))
        .map_err(step("mounting a tmpfs"))?;
    chdir(STAGE).map_err(step("entering the new root"))?;
    // Both arguments ".": the old root comes to lie over the new one and is detached from there.
    pivot_root(".", ".").map_err(step("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(step("detaching the old root"))?;
    chdir("/").map_err(step("entering the root"))?;
    mount(nothing, "/", nothing, flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_BIND, nothing)
        .map_err(step("making the root read-only"))
}
