//! One compilation: a process, its limits, its words.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::io::unix::AsyncFd;
use void_ipc::channel::{self, Channel, ChannelError, ReceiveBuffer};
use void_ipc::limits::DETAIL_BYTES;
use void_ipc::message::{FromCompiler, Job, ModuleKind, Role};
use void_seccomp::watch::Process;

use super::heard::{Heard, Hearing};
use super::{Code, CompileError};
use crate::metrics::{self, Metrics};
use crate::readiness;
use crate::spawner::Spawner;

/// What a compilation may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    cpu_seconds: u32,
    memory_bytes: u64,
    output_bytes: u64,
    wall: Duration,
}

impl Limits {
    /// Limits for a module of `bytes`: a base that any honest small module stays far below, and for larger ones what
    /// their size explains. The most is what nobody else should have to wait for.
    pub(crate) fn for_module(bytes: u64) -> Limits {
        let mib = bytes.div_ceil(1 << 20);
        let cpu_seconds = u32::try_from(5 + 2 * mib).unwrap_or(u32::MAX).min(20);
        Limits {
            cpu_seconds,
            memory_bytes: (512 << 20) + bytes.saturating_mul(24),
            output_bytes: (64 << 20) + bytes.saturating_mul(8),
            // Waiting is no sin where processors are scarce, waiting without end is.
            wall: Duration::from_secs(u64::from(cpu_seconds) * 4 + 10),
        }
    }
}

/// What is to be done, and how urgently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// A look at what the module is.
    Describe,
    /// Machine code, for which somebody waits.
    Compile,
    /// Machine code for later: the process gives way to all others.
    Prepare,
}

impl Work {
    /// How far the process stands back. At 5 it has a third of the weight of one at 0: a run that comes to wait for it
    /// meanwhile must see it end.
    fn nice(self) -> u8 {
        match self {
            Work::Describe | Work::Compile => 0,
            Work::Prepare => 5,
        }
    }

    /// How many times as long as usual it may take by the clock, since it gives way.
    fn patience(self) -> u32 {
        match self {
            Work::Describe | Work::Compile => 1,
            Work::Prepare => 3,
        }
    }
}

type Socket = AsyncFd<Channel<Job, FromCompiler>>;

/// Has a process do it.
pub(super) async fn run(
    spawner: &Spawner,
    metrics: &Metrics,
    wasm: &[u8],
    work: Work,
    limits: Limits,
    allow_weaker: bool,
) -> Result<Code, CompileError> {
    let unavailable = |error: &dyn std::fmt::Display| CompileError::Unavailable(error.to_string());
    let input = sealed(c"wasm", wasm).map_err(|error| unavailable(&error))?;
    let output = memfd(c"code").map_err(|error| unavailable(&error))?;
    let (channel, theirs) = channel::pair().map_err(|error| unavailable(&error))?;
    let job = Job {
        compile: work != Work::Describe,
        cpu_seconds_max: limits.cpu_seconds,
        memory_bytes_max: limits.memory_bytes,
        output_bytes_max: limits.output_bytes,
        allow_weaker,
    };
    channel.send(&job, &[], &mut Vec::new()).map_err(|error| unavailable(&error))?;
    channel.tell_senders().map_err(|error| unavailable(&error))?;
    let socket = readiness::watch(channel).map_err(|error| unavailable(&error))?;
    spawner
        .spawn(Role::Compiler, theirs.as_fd(), output.as_fd(), input.as_fd())
        .await
        .map_err(|error| unavailable(&error))?;
    drop(theirs);
    metrics.worker_started(metrics::Role::Compiler);
    let mut compiler = Running { socket, process: None, nice: work.nice() };
    let _busy = metrics.busy(metrics::Role::Compiler);
    let patience = limits.wall * work.patience();
    let answer = tokio::time::timeout(patience, compiler.listen(output)).await;
    let cause = match &answer {
        Ok(Ok(_) | Err(CompileError::Invalid(_) | CompileError::Budget(_) | CompileError::Refused(_))) => {
            metrics::Cause::Exit
        }
        Ok(Err(_)) => metrics::Cause::Crashed,
        Err(_) => metrics::Cause::Killed,
    };
    metrics.worker_ended(metrics::Role::Compiler, cause);
    answer.unwrap_or(Err(CompileError::Late(patience)))
}

struct Running {
    socket: Socket,
    process: Option<Process>,
    nice: u8,
}

impl Running {
    async fn listen(&mut self, output: OwnedFd) -> Result<Code, CompileError> {
        let crashed = |error: &dyn std::fmt::Display| CompileError::Crashed(error.to_string());
        let mut heard = Heard::default();
        let mut engine = None;
        let mut buffer = ReceiveBuffer::default();
        loop {
            let message = self.receive(&mut buffer).await.map_err(|error| crashed(&error))?;
            match heard.hear(message).map_err(|error| crashed(&error))? {
                Hearing::More => {}
                Hearing::Other(FromCompiler::Ready { engine: said }) => {
                    // The first word counts: the module has not been looked at yet.
                    engine.get_or_insert(said);
                }
                Hearing::Other(FromCompiler::Invalid(why)) => {
                    // It goes into a record; an honest compiler is briefer.
                    return Err(CompileError::Invalid(why.chars().take(DETAIL_BYTES).collect()));
                }
                Hearing::Other(FromCompiler::Budget(budget)) => return Err(CompileError::Budget(budget)),
                Hearing::Other(FromCompiler::Refused(refused)) => return Err(CompileError::Refused(refused)),
                Hearing::Other(
                    FromCompiler::Export(_) | FromCompiler::Import(_) | FromCompiler::Compiled { .. },
                ) => return Err(crashed(&"its description makes no sense")),
                Hearing::All(description, code_bytes) => {
                    if description.kind == ModuleKind::Component {
                        return Err(CompileError::Invalid(
                            "this is a component; only core modules are executed, so build for wasm32-wasip1 or \
                             wasm32-unknown-unknown"
                                .into(),
                        ));
                    }
                    let size = seal(&output).map_err(|error| crashed(&error))?;
                    if size != code_bytes {
                        return Err(crashed(&"it wrote another number of bytes than it says"));
                    }
                    let engine = engine.ok_or_else(|| crashed(&"it never said that it is ready"))?;
                    return Ok(Code { description, size, engine, memfd: output });
                }
            }
        }
    }

    async fn receive(&mut self, buffer: &mut ReceiveBuffer) -> Result<FromCompiler, ChannelError> {
        loop {
            let mut ready = self.socket.readable().await?;
            match self.socket.get_ref().receive_with_sender(buffer) {
                Err(error) if error.would_block() => ready.clear_ready(),
                Err(error) => return Err(error),
                Ok((message, sender)) => {
                    if let (None, Some(sender)) = (&self.process, sender) {
                        // Its number is only believed while its socket is open.
                        let opened = Process::open(sender.pid()).ok();
                        let gone = readiness::peer_is_gone(self.socket.get_ref().as_fd());
                        self.process = opened.filter(|_| !gone);
                        if self.process.is_some() && self.nice > 0 {
                            // One that has just ended does not need it.
                            let _ = void_seccomp::process::give_way(sender.pid(), self.nice);
                        }
                    }
                    return Ok(message);
                }
            }
        }
    }
}

/// Whatever the reason that nobody listens any more: the process is not needed.
impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = &self.process
            && let Err(error) = process.kill()
        {
            tracing::error!(%error, "a compiler cannot be killed");
        }
    }
}

pub(super) fn memfd(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?)
}

/// `bytes` in a memfd that nobody can change, read from its beginning.
fn sealed(name: &std::ffi::CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd(name)?);
    file.write_all(bytes)?;
    io::Seek::rewind(&mut file)?;
    let memfd = OwnedFd::from(file);
    seal(&memfd)?;
    Ok(memfd)
}

/// Makes a memfd immutable for good. Its size in bytes.
pub(super) fn seal(memfd: &OwnedFd) -> io::Result<u64> {
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(memfd, FcntlArg::F_ADD_SEALS(seals))?;
    let size = nix::sys::stat::fstat(memfd)?.st_size;
    Ok(size.unsigned_abs())
}
