//! A run process for as long as somebody uses it.

use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use void_ipc::message::{Refused, ToZygote};

use super::InUse;
use super::process::{Exit, RunProcess};
use super::zygote::Zygote;

/// A run process in use. Dropping it, for whatever reason, gives it back, and it ends.
#[derive(Debug)]
pub(crate) struct Lease {
    process: Rc<RunProcess>,
    zygote: Rc<Zygote>,
    in_use: Rc<InUse>,
}

impl Lease {
    pub(super) fn new(process: Rc<RunProcess>, zygote: Rc<Zygote>, in_use: Rc<InUse>) -> Lease {
        Lease { process, zygote, in_use }
    }

    /// Layers that its zygote could not take on (only where weaker isolation is allowed).
    pub(crate) fn missing(&self) -> Vec<Refused> {
        self.zygote.missing()
    }

    /// Waits until the process has ended and its zygote has said how. `None` where the zygote is gone too.
    pub(crate) async fn exited(&self) -> Option<Exit> {
        const PAUSE: Duration = Duration::from_millis(2);
        loop {
            // A zygote that is gone drops what would tell, which ends the wait.
            let _ = self.zygote.order(&ToZygote::Reap, &[]);
            if let Ok(exit) = tokio::time::timeout(PAUSE, self.process.exited()).await {
                return exit;
            }
        }
    }
}

impl Deref for Lease {
    type Target = RunProcess;

    fn deref(&self) -> &RunProcess {
        &self.process
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let place = self.in_use.borrow().iter().position(|process| Rc::ptr_eq(process, &self.process));
        if let Some(place) = place {
            self.in_use.borrow_mut().swap_remove(place);
        }
        self.zygote.take_back(Rc::clone(&self.process));
    }
}
