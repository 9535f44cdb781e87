//! The order in which a worker takes the layers on, after it was executed in its namespaces.
//!
//! ```text
//! spawn:    user, namespaces, namespace limits            (before exec: address layout of its own)
//! enter:    empty root, limits, capabilities, process, speculation, landlock
//! (worker:  loads what it must, warms up)
//! finish:   memory, seccomp
//! ```

use std::ops::Range;

use void_ipc::message::{Layer, Refused};

use crate::filter::Filter;
use crate::limits::Limits;
use crate::{capabilities, landlock, limits, memory, mounts, process};

/// What the kernel refused so far. Empty unless weaker isolation was allowed.
#[derive(Debug, Default)]
pub struct Lockdown {
    allow_weaker: bool,
    missing: Vec<Refused>,
}

impl Lockdown {
    /// Begins. With `allow_weaker` a refused layer is noted instead of ending the process's life; `before` are those that
    /// the spawner had to do without.
    ///
    /// # Errors
    /// The first of them, where none may be missing.
    pub fn begin(allow_weaker: bool, before: Vec<Refused>) -> Result<Lockdown, Refused> {
        let mut lockdown = Lockdown { allow_weaker, missing: Vec::new() };
        before.into_iter().try_for_each(|refused| lockdown.layer(refused.layer, Err(refused.detail)))?;
        Ok(lockdown)
    }

    /// Whether this process goes on without `layer`.
    pub fn misses(&self, layer: Layer) -> bool {
        self.missing.iter().any(|refused| refused.layer == layer)
    }

    /// The layers that need nothing loaded yet.
    ///
    /// # Errors
    /// The first layer that was refused.
    pub fn enter(&mut self, bounds: Limits) -> Result<(), Refused> {
        // Without a mount namespace of its own the root that it takes away would be the machine's.
        let root = if self.misses(Layer::Namespaces) {
            Err("without a mount namespace of its own the root is everybody's".into())
        } else {
            mounts::empty_root().map_err(at_step)
        };
        self.layer(Layer::EmptyRoot, root)?;
        self.layer(Layer::Limits, limits::set(bounds).map_err(plain))?;
        self.layer(Layer::Capabilities, capabilities::drop_all().map_err(plain))?;
        self.layer(Layer::Process, process::restrict().map_err(at_step))?;
        self.layer(Layer::Speculation, process::restrict_speculation().map_err(plain))?;
        self.layer(Layer::Landlock, landlock::restrict())
    }

    /// The layers that come last: from here on nothing can be loaded. `code` is sealed.
    ///
    /// # Errors
    /// The first layer that was refused.
    pub fn finish(
        mut self,
        code: &[Range<*const u8>],
        processes: u64,
        filter: Filter<'_>,
    ) -> Result<Vec<Refused>, Refused> {
        self.layer(Layer::Memory, memory::seal(code).map_err(at_step))?;
        // The kernel counts by user and user namespace: without either of its own, all others of this user count too.
        let shared = self.misses(Layer::User) && self.misses(Layer::Namespaces);
        self.layer(Layer::Limits, limits::set_last((!shared).then_some(processes)).map_err(plain))?;
        if shared {
            let detail = "the number of processes cannot be limited: it is counted for all of this user's";
            self.layer(Layer::Limits, Err(detail.into()))?;
        }
        let missing = std::mem::take(&mut self.missing);
        // A filter that cannot be installed is the one layer without which nothing goes on.
        filter.install()?;
        Ok(missing)
    }

    fn layer(&mut self, layer: Layer, result: Result<(), String>) -> Result<(), Refused> {
        match result {
            Ok(()) => Ok(()),
            Err(detail) if self.allow_weaker => {
                if !self.misses(layer) {
                    self.missing.push(Refused { layer, detail });
                }
                Ok(())
            }
            Err(detail) => Err(Refused { layer, detail }),
        }
    }
}

pub(crate) fn at_step((step, error): (&'static str, std::io::Error)) -> String {
    format!("{step}: {error}")
}

pub(crate) fn plain(error: std::io::Error) -> String {
    error.to_string()
}
