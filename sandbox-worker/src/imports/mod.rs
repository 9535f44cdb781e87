//! What a guest may import: the gateway calls of the module `void`, as `docs/abi.md` has them, and WASI preview 1.
//!
//! Nothing here decides: a call goes to the supervisor as it was made, or where that cannot be as one that is unfit, and its
//! answer comes back as a code.

mod calls;
mod memory;
mod void;
mod wasi;

use wasmtime::{Engine, Linker, Module, Result};

pub use calls::{Answer, Calls};
pub use wasi::MODULE as WASI;
pub use wasi::{Exit, Wasi, prepare_random};

use crate::engine::RunState;

/// Why a guest is stopped by a function that it called.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub(crate) String);

/// What `module` may be linked with. `None` where it imports nothing, and so needs nothing.
///
/// # Errors
/// wasmtime's, for a name that is defined twice.
pub fn linker(engine: &Engine, module: &Module) -> Result<Option<Linker<RunState>>> {
    let imports = |name: &str| module.imports().any(|import| import.module() == name);
    if module.imports().len() == 0 {
        return Ok(None);
    }
    let mut linker = Linker::new(engine);
    if imports(void::MODULE) {
        void::add(&mut linker)?;
    }
    if imports(wasi::MODULE) {
        wasi::add(&mut linker)?;
    }
    Ok(Some(linker))
}
