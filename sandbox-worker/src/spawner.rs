//! The spawner: starts zygotes and compilers in namespaces of their own, and does nothing else.
//!
//! It has one thread and ends with the supervisor; what it started ends with it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::unistd::{Uid, getegid, geteuid};
use void_ipc::limits::FRAME_BYTES;
use void_ipc::message::{FromCompiler, FromZygote, Refused, Role, ToSpawner};
use void_seccomp::means::Means;
use void_seccomp::namespaces::Identity;
use void_seccomp::spawn::{self, Program};
use void_seccomp::{descriptors, process};

/// First user number for workers where the spawner may choose (root): above what systems hand out to people,
/// containers and dynamic users.
const FIRST_USER: u32 = 2_000_000_000;

/// The spawner's whole life. `parent` is the supervisor's process number, `mode` is `weaker` where a refused
/// layer is no reason to stop. Descriptor 0 is the socket to the supervisor.
pub fn main(parent: Option<String>, mode: Option<String>) -> ExitCode {
    let allow_weaker = mode.as_deref() == Some("weaker");
    let Some(parent) = parent.and_then(|parent| parent.parse().ok()) else { return ExitCode::from(64) };
    match open(parent, allow_weaker) {
        Ok(spawner) => serve(&spawner),
        Err(_) => ExitCode::from(71),
    }
}

struct Spawner {
    socket: OwnedFd,
    /// Refers to this process.
    own: OwnedFd,
    zygote: File,
    compiler: File,
    means: Means,
}

fn open(parent: i32, allow_weaker: bool) -> std::io::Result<Spawner> {
    process::set_name(c"void-spawner")?;
    let own = spawn::prepare(parent)?;
    let socket = void_seccomp::inherited(0).try_clone()?;
    // Workers find nothing to read on their standard input.
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    let worker: PathBuf = std::env::current_exe()?;
    let compiler = worker.with_file_name("void-sandbox-compiler");
    let (zygote, compiler) = (File::open("/proc/self/exe")?, File::open(compiler)?);
    let means = if allow_weaker { Means::find(identity(0))? } else { Means::default() };
    Ok(Spawner { socket, own, zygote, compiler, means })
}

fn serve(Spawner { socket, own, zygote, compiler, means }: &Spawner) -> ExitCode {
    let mut buffer = vec![0; FRAME_BYTES];
    loop {
        let (length, descriptors) = match descriptors::receive(socket.as_fd(), &mut buffer) {
            Ok((0, _)) => return ExitCode::SUCCESS,
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return ExitCode::from(71),
        };
        let Ok(ToSpawner::Spawn { role, user_slot }) = void_ipc::decode(&buffer[..length]) else {
            return ExitCode::from(76);
        };
        let [control, fourth, fifth] = descriptors.as_slice() else { return ExitCode::from(76) };
        let (file, name) = match role {
            Role::Zygote => (zygote, c"void-zygote"),
            Role::Compiler => (compiler, c"void-compiler"),
        };
        let program = Program {
            file: file.as_fd(),
            name,
            descriptors: [control.as_fd(), fourth.as_fd(), fifth.as_fd()],
            starter: own.as_fd(),
            identity: identity(user_slot),
            means,
        };
        let report = |refused| report(role, control, refused);
        if let Err(refused) = spawn::start(&program, report) {
            report(refused);
        }
    }
}

fn identity(slot: u16) -> Identity {
    if geteuid() == Uid::from_raw(0) {
        let number = FIRST_USER + u32::from(slot);
        Identity { user: number, group: number, chosen: true }
    } else {
        Identity { user: geteuid().as_raw(), group: getegid().as_raw(), chosen: false }
    }
}

/// Says on the worker's own socket, in the worker's own words, that it will not come to be.
fn report(role: Role, control: &OwnedFd, refused: Refused) {
    let mut frame = Vec::new();
    let encoded = match role {
        Role::Zygote => void_ipc::encode(&FromZygote::Refused(refused), &mut frame),
        Role::Compiler => void_ipc::encode(&FromCompiler::Refused(refused), &mut frame),
    };
    if encoded.is_ok() {
        // If the supervisor is not there any more, nobody misses it.
        let _ = nix::unistd::write(control, &frame);
    }
}
