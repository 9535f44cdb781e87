//! What the kernel lets the spawner do for its workers. Found out once, by trying, and only where less than all may be enough.
//!
//! What was found is then asked of the kernel for each worker: one that it refuses does not come to be, so that isolation
//! never becomes weaker than what was proven at the start.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use nix::unistd::{Gid, Uid, getegid, geteuid, getresuid, setgroups, setresgid, setresuid};
use void_ipc::message::{Layer, Refused};

use crate::lockdown::plain;
use crate::namespaces::{self, Identity};
use crate::{capabilities, process, sys};

/// How workers are started.
#[derive(Debug, Clone)]
pub struct Means {
    /// In namespaces of their own.
    pub(crate) namespaces: bool,
    /// As a user of their own, where the spawner may choose.
    user: bool,
    /// No further namespace can be made in theirs.
    bounded: bool,
    /// What is left out, and why.
    missing: Vec<Refused>,
}

impl Default for Means {
    /// Everything.
    fn default() -> Means {
        Means { namespaces: true, user: true, bounded: true, missing: Vec::new() }
    }
}

impl Means {
    /// Tries what the kernel grants to a worker of this identity, from everything down to a plain fork.
    ///
    /// # Errors
    /// What is a matter of the moment: no memory, no process.
    pub fn find(identity: Identity) -> io::Result<Means> {
        let mut means = Means::default();
        while let Some(refused) = means.attempt(identity)? {
            match refused.layer {
                Layer::NamespaceLimits if means.bounded => means.bounded = false,
                Layer::User if means.user => means.user = false,
                // Without namespaces there is another way to another user: it is tried anew.
                _ if means.namespaces => {
                    means = Means { namespaces: false, ..Means::default() };
                }
                _ => return Err(io::Error::other(refused.detail)),
            }
            means.missing.push(refused);
        }
        if !means.namespaces {
            means.leave_out(
                Layer::NamespaceLimits,
                "without a user namespace of its own they are everybody's",
            );
            if !identity.chosen {
                means.leave_out(
                    Layer::User,
                    "without a user namespace of its own it is the supervisor's user",
                );
            }
        }
        Ok(means)
    }

    fn leave_out(&mut self, layer: Layer, why: &str) {
        self.missing.push(Refused { layer, detail: why.into() });
    }

    /// What is left out, as words that a worker is started with: [`left_out`] reads them.
    pub(crate) fn words(&self) -> Vec<CString> {
        let word = |refused: &Refused| format!("{}={}", refused.layer.name(), refused.detail);
        self.missing.iter().filter_map(|refused| CString::new(word(refused)).ok()).collect()
    }

    /// The namespaces to clone into.
    pub(crate) fn flags(&self) -> i32 {
        if self.namespaces { namespaces::ALL } else { 0 }
    }

    /// Who a worker is outside: as it should be, or as we are.
    pub(crate) fn identity(&self, wanted: Identity) -> Identity {
        if self.user {
            return wanted;
        }
        Identity { user: geteuid().as_raw(), group: getegid().as_raw(), chosen: false }
    }

    /// The worker's side of becoming somebody else, from within its namespaces. A change of identity undoes what makes a
    /// process die with its parent.
    pub(crate) fn settle(&self, wanted: Identity) -> Result<(), Refused> {
        let identity = self.identity(wanted);
        let (user, group) = if self.namespaces { (0, 0) } else { (identity.user, identity.group) };
        take_identity(identity.chosen, user, group, self.namespaces)
            .map_err(|detail| Refused { layer: Layer::User, detail })?;
        if self.namespaces && self.bounded {
            namespaces::forbid_further()
                .map_err(|error| Refused { layer: Layer::NamespaceLimits, detail: plain(error) })?;
        }
        Ok(())
    }

    /// Starts a process that goes as far as a worker's program and ends there. Gives what it was refused.
    fn attempt(&self, wanted: Identity) -> io::Result<Option<Refused>> {
        let (mut ours, mut theirs) = UnixStream::pair()?;
        let pid = match sys::clone(self.flags()) {
            Ok(pid) => pid,
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => return Ok(Some(no_namespaces(format!("clone: {error}")))),
        };
        if pid == 0 {
            drop(ours);
            let mut byte = [0];
            let ready = process::set_dumpable(true)
                .and_then(|()| theirs.write_all(&byte))
                .and_then(|()| theirs.read_exact(&mut byte));
            if ready.is_ok() {
                let refused: Vec<Refused> = self.settle(wanted).err().into_iter().collect();
                let mut frame = Vec::new();
                let _ = void_ipc::encode(&refused, &mut frame);
                // Who hears nothing takes it as no answer.
                let _ = theirs.write_all(&frame);
            }
            sys::exit(0)
        }
        drop(theirs);
        let mut byte = [0];
        ours.read_exact(&mut byte)?;
        if let Err(refused) = self.map(pid, wanted) {
            return Ok(Some(refused));
        }
        let mut frame = Vec::new();
        ours.write_all(&byte).and_then(|()| ours.read_to_end(&mut frame))?;
        let refused: Vec<Refused> = void_ipc::decode(&frame).map_err(io::Error::other)?;
        Ok(refused.into_iter().next())
    }

    /// Maps the users of a new process's namespace, from outside.
    pub(crate) fn map(&self, pid: i32, wanted: Identity) -> Result<(), Refused> {
        if !self.namespaces {
            return Ok(());
        }
        let identity = self.identity(wanted);
        namespaces::map_users(pid, identity).map_err(|error| {
            // One's own user can always be mapped, others only by root of a namespace that has them.
            let layer = if identity.chosen { Layer::User } else { Layer::Namespaces };
            Refused { layer, detail: format!("mapping user {}: {error}", identity.user) }
        })
    }
}

/// What the spawner left out, in the program that it has started.
pub fn left_out(words: impl Iterator<Item = String>) -> Vec<Refused> {
    let refused = |word: String| {
        let (name, detail) = word.split_once('=')?;
        let layer = Layer::ALL.into_iter().find(|layer| layer.name() == name)?;
        Some(Refused { layer, detail: detail.to_owned() })
    };
    words.filter_map(refused).collect()
}

pub(crate) fn no_namespaces(detail: String) -> Refused {
    Refused { layer: Layer::Namespaces, detail }
}

/// Whether the kernel may well say otherwise in a moment. (No room for another namespace is said with ENOSPC.)
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM | libc::EINTR))
}

fn take_identity(chosen: bool, user: u32, group: u32, inside: bool) -> Result<(), String> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    let step =
        |name: &'static str| move |errno: nix::errno::Errno| format!("{name}: {}", io::Error::from(errno));
    if chosen {
        if !inside {
            // The last moment at which that can be had: what is refused shows when the worker tries again.
            let _ = capabilities::lock();
        }
        setgroups(&[]).map_err(step("setgroups"))?;
    }
    let now = getresuid().map_err(step("getresuid"))?;
    if [now.real, now.effective, now.saved] == [user; 3] && !chosen {
        return Ok(());
    }
    setresgid(group, group, group).map_err(step("setresgid"))?;
    setresuid(user, user, user).map_err(step("setresuid"))
}
