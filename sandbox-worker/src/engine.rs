//! The engine, a module's code, and an instance in which no guest code has run.

use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;

use void_ipc::limits::TABLE_ELEMENTS;
use void_ipc::message::{Call, Unloadable};
use wasmtime::{
    Enabled, Engine, Instance, InstanceAllocationStrategy, Linker, Memory, Module, PoolingAllocationConfig,
    Store,
};

use crate::imports::{self, Answer, Calls, Wasi};
use crate::limiter::Limiter;
use crate::line::Line;

/// Bytes that one WASI call of a guest may have copied: they must fit the heap that is prepared.
const HOSTCALL_BYTES: usize = 16 << 20;

/// Memories, and tables, of a module whose run processes are used again: places for them are laid aside beforehand.
/// Few modules have more than one of each.
const PLACES: u32 = 4;
/// Bytes of an element's place in a table, at most.
const ELEMENT_BYTES: u64 = 16;
/// Private writable memory that the places of tables take.
pub const PLACES_BYTES: u64 = PLACES as u64 * TABLE_ELEMENTS as u64 * ELEMENT_BYTES;

/// What belongs to one run inside its store.
#[derive(Debug)]
pub struct RunState {
    /// Memory and tables.
    pub limiter: Limiter,
    /// Gateway calls.
    pub calls: Calls,
    /// Where the guest has WASI, once it is needed.
    pub wasi: Option<Box<Wasi>>,
    /// The memory that the module exports under this name, for the functions that it calls.
    pub memory: Option<Memory>,
}

impl RunState {
    /// The guest's WASI; one that was given nothing where no guest has started yet.
    pub fn wasi(&mut self) -> &mut Wasi {
        self.wasi.get_or_insert_with(|| Box::new(Wasi::idle(self.calls.line())))
    }

    /// Makes one gateway call and waits for its answer.
    pub fn call(&mut self, call: Call) -> Answer {
        self.calls.make(call, self.limiter.pages())
    }
}

/// A module, instantiated and untouched: the compiler has turned its start function into an export, so
/// that nothing of the guest runs before the run process calls it.
pub struct Template {
    /// The store, whose instance is [`Template::instance`].
    pub store: Store<RunState>,
    /// The instance.
    pub instance: Instance,
    module: Module,
    linker: Option<Linker<RunState>>,
    line: Line,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Template").finish_non_exhaustive()
    }
}

impl Template {
    /// Whether the module imports WASI.
    pub fn has_wasi(&self) -> bool {
        self.module.imports().any(|import| import.module() == imports::WASI)
    }

    /// Puts a new store and a new instance in the place of those that a run has used. Only with an engine for reuse.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn renew(&mut self) -> Result<(), Unloadable> {
        let engine = self.module.engine().clone();
        // The old store goes first: there is one place. The limit comes with the next order.
        self.store = store(&engine, u32::MAX, &self.line);
        self.instance = instantiate(&mut self.store, &self.module, self.linker.as_ref())?;
        Ok(())
    }

    /// Where the module's code lies.
    pub fn code(&self) -> Range<*const u8> {
        self.module.image_range()
    }
}

/// Makes the engine. With `reuse` it has places for one instance, which the next one takes over: what the last one left is
/// thrown away by the kernel, and no mapping is made.
///
/// # Errors
/// wasmtime's, when the configuration does not suit this machine.
pub fn engine(reuse: bool) -> Result<Engine, Unloadable> {
    let mut config = void_engine::config();
    config.memory_init_cow(true);
    if reuse {
        let mut places = PoolingAllocationConfig::new();
        places
            .total_core_instances(1)
            .total_component_instances(0)
            .total_stacks(0)
            .total_memories(PLACES)
            .max_memories_per_module(PLACES)
            .max_memory_size(usize::try_from(void_engine::MEMORY_RESERVATION_BYTES).unwrap_or(usize::MAX))
            .total_tables(PLACES)
            .max_tables_per_module(PLACES)
            .table_elements(TABLE_ELEMENTS)
            // Pages that were written are given back, not cleaned: asking which they are takes kernel syscalls of its own.
            .linear_memory_keep_resident(0)
            .table_keep_resident(0)
            .pagemap_scan(Enabled::No);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(places));
    }
    Engine::new(&config).map_err(|error| Unloadable::Engine(one_line(&error)))
}

/// Loads the machine code in `code` and instantiates it. What it imports will speak over `line`. `at_instance` is called in
/// between: what is allocated from there on is what a run process writes.
///
/// # Errors
/// Why it cannot be.
pub fn load(
    engine: &Engine,
    code: OwnedFd,
    pages_max: u32,
    line: &Line,
    at_instance: impl FnOnce(),
) -> Result<Template, Unloadable> {
    let module =
        deserialize(engine, File::from(code)).map_err(|error| Unloadable::Engine(one_line(&error)))?;
    let linker = imports::linker(engine, &module).map_err(|error| Unloadable::Engine(one_line(&error)))?;
    at_instance();
    let mut store = store(engine, pages_max, line);
    let instance = instantiate(&mut store, &module, linker.as_ref())?;
    Ok(Template { store, instance, module, linker, line: line.clone() })
}

fn store(engine: &Engine, pages_max: u32, line: &Line) -> Store<RunState> {
    let state = RunState {
        limiter: Limiter::new(pages_max),
        calls: Calls::new(line.clone()),
        wasi: None,
        memory: None,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store
}

fn instantiate(
    store: &mut Store<RunState>,
    module: &Module,
    linker: Option<&Linker<RunState>>,
) -> Result<Instance, Unloadable> {
    let instance = match linker {
        None => Instance::new(&mut *store, module, &[]),
        Some(linker) => {
            if let Some(import) =
                module.imports().find(|import| linker.get_by_import(&mut *store, import).is_none())
            {
                return Err(Unloadable::Import(format!("{}.{}", import.module(), import.name())));
            }
            linker.instantiate(&mut *store, module)
        }
    };
    let instance = instance.map_err(|error| {
        let message = one_line(&error);
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(_) => Unloadable::Trap(message),
            None if store.data().limiter.refused() => Unloadable::Memory(message),
            None => Unloadable::Engine(message),
        }
    })?;
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    Ok(instance)
}

/// The first line of an error and of what caused it, bounded.
pub fn one_line(error: &wasmtime::Error) -> String {
    let mut text = format!("{error:#}");
    if let Some(end) = text.find('\n') {
        text.truncate(end);
    }
    bounded(text, void_ipc::limits::DETAIL_BYTES)
}

/// Cuts a text at a character's boundary.
pub fn bounded(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[allow(unsafe_code)]
fn deserialize(engine: &Engine, code: File) -> wasmtime::Result<Module> {
    // SAFETY: the file is a memfd that the supervisor sealed after a compiler of this build wrote it for this tenant;
    // it cannot change. If that compiler was subverted by the module, what runs is confined as that module is.
    unsafe { Module::deserialize_open_file(engine, code) }
}
