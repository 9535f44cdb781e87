//! Why a run ended in `error`.

crate::words::words! {
    /// The `reason` of a run record whose status is `error`.
    Reason {
        /// The guest trapped; the record has the backtrace.
        Trap = "trap",
        /// More CPU time than granted.
        CpuBudget = "cpu_budget",
        /// More wall time than granted.
        WallBudget = "wall_budget",
        /// More memory than granted.
        Memory = "memory",
        /// The guest's stack overflowed.
        Stack = "stack",
        /// More gateway calls than granted.
        SyscallBudget = "syscall_budget",
        /// More output than can be kept.
        Output = "output",
        /// A WASI exit code other than 0.
        Exit = "exit",
        /// No source has the module.
        ModuleNotFound = "module_not_found",
        /// The bytes are no module that this service runs.
        ModuleInvalid = "module_invalid",
        /// The bytes do not match the target's digest.
        ModuleUnverified = "module_unverified",
        /// The module has no such export.
        EntryNotFound = "entry_not_found",
        /// The export's type differs from the declared one, or the arguments do not fit it.
        EntryTypeMismatch = "entry_type_mismatch",
        /// Compiling took more than granted.
        CompileBudget = "compile_budget",
        /// The worker process died under the run.
        WorkerCrashed = "worker_crashed",
        /// The supervisor died under the run.
        Interrupted = "interrupted",
        /// A fault of the service.
        Internal = "internal",
    }
}
