//! The proof at the start: a run process of our own, looked at from outside, before any guest is let in.
//!
//! That a worker says it is locked down proves nothing. What the kernel shows of a live run process does.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use void_ipc::message::{Claim, FromRun, Layer, Refused, Start, Value};

use crate::compile::Code;
use crate::pool::{self, Key, LeaseError, Nursery, Pool};
use crate::worker;

/// Which layers stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    missing: Vec<Refused>,
}

impl Layers {
    /// Those that stand, in order.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let missing = |layer: &Layer| self.missing.iter().any(|refused| refused.layer == *layer);
        Layer::ALL.iter().filter(|layer| !missing(layer)).map(|layer| layer.name()).collect()
    }

    /// Those that do not, and why.
    pub(crate) fn missing(&self) -> &[Refused] {
        &self.missing
    }
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    /// A layer was refused or does not show.
    #[error(
        "the isolation layer `{}` does not stand: {}. {} To start without it nevertheless, set WASM_ALLOW_WEAKER_ISOLATION=1",
        .0.layer.name(), .0.detail, remedy(.0)
    )]
    Layer(Refused),
    /// The probe did not run as it must.
    #[error(
        "the probe run failed: {0}: reinstall void-sandbox-worker and void-sandbox-compiler of this very build beside void-supervisor"
    )]
    Probe(String),
}

/// Runs the probe and looks at its process.
pub(crate) async fn prove(nursery: &Nursery, probe: &Arc<Code>) -> Result<Layers, ProofError> {
    let failed = |error: &dyn std::fmt::Display| ProofError::Probe(error.to_string());
    let pool = Pool::new(nursery.clone());
    let key = Key {
        tenant: Arc::from("probe"),
        sha256: [0; 32],
        mem_pages_max: 16,
        cpu_seconds_max: pool::cpu_seconds_max(0),
    };
    let process = pool.lease(&key, probe).await.map_err(|error| match error {
        LeaseError::Refused(refused) => ProofError::Layer(refused),
        other => failed(&other),
    })?;
    let mut missing = process.missing();
    let pid = process.pid().ok_or_else(|| failed(&"the kernel does not say which process answers"))?;
    for (layer, shown) in look(pid) {
        let known = missing.iter().any(|refused| refused.layer == layer);
        if let Err(detail) = shown
            && !known
        {
            let refused = Refused { layer, detail };
            if !nursery.allow_weaker {
                return Err(ProofError::Layer(refused));
            }
            missing.push(refused);
        }
    }
    let start = Start {
        export: "add".into(),
        args: vec![Value::I32(2), Value::I32(3)],
        first: vec![],
        wasi: None,
        mem_pages_max: 16,
    };
    worker::begin(&process, start).map_err(|error| failed(&error))?;
    match process.receive().await {
        Ok(FromRun::Done(end)) if end.claim == Claim::Returned(vec![Value::I32(5)]) => {
            missing.sort_by_key(|refused| refused.layer);
            Ok(Layers { missing })
        }
        other => Err(failed(&format!("add(2, 3) gave {other:?}"))),
    }
}

/// What the kernel shows of a process, layer by layer.
fn look(pid: i32) -> Vec<(Layer, Result<(), String>)> {
    vec![
        (Layer::Namespaces, namespaces(pid)),
        (Layer::EmptyRoot, empty_root(pid)),
        (Layer::Limits, limits(pid)),
        (
            Layer::Capabilities,
            status(pid, &["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"], "0000000000000000"),
        ),
        (Layer::Process, status(pid, &["NoNewPrivs"], "1")),
        (Layer::Seccomp, status(pid, &["Seccomp"], "2").and_then(|()| status(pid, &["Threads"], "1"))),
    ]
}

fn read(path: PathBuf) -> Result<String, String> {
    fs::read_to_string(&path).map_err(|error| cannot_look(&path, &error))
}

fn cannot_look(path: &std::path::Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}

fn status(pid: i32, fields: &[&str], wanted: &str) -> Result<(), String> {
    let text = read(format!("/proc/{pid}/status").into())?;
    for field in fields {
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::trim));
        if value != Some(wanted) {
            return Err(format!("{field} is {} and must be {wanted}", value.unwrap_or("absent")));
        }
    }
    Ok(())
}

fn namespaces(pid: i32) -> Result<(), String> {
    for kind in ["user", "pid", "net", "ipc", "mnt", "uts", "cgroup"] {
        let link = |process: &str| {
            let path = PathBuf::from(format!("/proc/{process}/ns/{kind}"));
            fs::read_link(&path).map_err(|error| cannot_look(&path, &error))
        };
        if link(&pid.to_string())? == link("self")? {
            return Err(format!("the {kind} namespace is the supervisor's own"));
        }
    }
    Ok(())
}

fn empty_root(pid: i32) -> Result<(), String> {
    let path = PathBuf::from(format!("/proc/{pid}/root/"));
    let mut entries = fs::read_dir(&path).map_err(|error| cannot_look(&path, &error))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err("the root of the file system is not empty".into()),
    }
}

fn limits(pid: i32) -> Result<(), String> {
    let text = read(format!("/proc/{pid}/limits").into())?;
    for name in ["Max core file size", "Max file size", "Max locked memory", "Max msgqueue size"] {
        let zero = text
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .any(|rest| rest.split_whitespace().take(2).eq(["0", "0"]));
        if !zero {
            return Err(format!("{name} is not zero"));
        }
    }
    Ok(())
}

fn remedy(refused: &Refused) -> &'static str {
    match refused.layer {
        Layer::User => {
            "As root, let the service have the user numbers from 2000000000 on (in a container or user namespace they must be \
             mapped) and change its user (setgroups, setresgid, setresuid); or start it as an ordinary user."
        }
        Layer::Namespaces | Layer::NamespaceLimits | Layer::EmptyRoot => {
            "Allow unprivileged user namespaces for this program: sysctl kernel.unprivileged_userns_clone=1, \
             user.max_user_namespaces above 0, and on systems with AppArmor a profile with `userns,` for void-sandbox-worker \
             (or sysctl kernel.apparmor_restrict_unprivileged_userns=0); in a container, allow unshare and mount."
        }
        Layer::Landlock => {
            "Boot with Landlock enabled (lsm=landlock,... on the kernel's command line; Linux 5.13 or newer)."
        }
        Layer::Memory => "Use Linux 6.10 or newer (mseal).",
        Layer::Seccomp => "Use a kernel with CONFIG_SECCOMP_FILTER.",
        Layer::Limits | Layer::Capabilities | Layer::Process | Layer::Speculation => {
            "Look for a limit or a security module that forbids it to this service."
        }
    }
}
