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
    /// Begins. With `allow_weaker` a refused layer is noted instead of ending the process's life.
    pub fn begin(allow_weaker: bool) -> Lockdown {
        Lockdown { allow_weaker, missing: Vec::new() }
    }

    /// The layers that need nothing loaded yet.
    ///
    /// # Errors
    /// The first layer that was refused.
    pub fn enter(&mut self, bounds: Limits) -> Result<(), Refused> {
        self.layer(Layer::EmptyRoot, mounts::empty_root().map_err(at_step))?;
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
        self.layer(Layer::Limits, limits::set_last(processes).map_err(plain))?;
        let missing = std::mem::take(&mut self.missing);
        // A filter that cannot be installed is the one layer without which nothing goes on.
        filter.install()?;
        Ok(missing)
    }

    fn layer(&mut self, layer: Layer, result: Result<(), String>) -> Result<(), Refused> {
        match result {
            Ok(()) => Ok(()),
            Err(detail) if self.allow_weaker => {
                self.missing.push(Refused { layer, detail });
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
