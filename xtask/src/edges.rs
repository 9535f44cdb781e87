//! `cargo xtask edges`: the dependencies that the architecture forbids.
//!
//! Each wall says who must not reach whom, why, and what to do instead. Reaching counts through any number of other
//! crates. The rules that only the source text shows are in `source`.

use crate::cargo::{all, answer, root};
use crate::source;

struct Wall {
    from: &'static [&'static str],
    /// Package names; one that ends in `*` stands for every name that begins so.
    never: &'static [&'static str],
    why: &'static str,
    instead: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        from: &["void-sandbox-worker", "void-sandbox-compiler", "void-engine", "void-ipc", "void-seccomp"],
        never: &["void-policy", "void-supervisor", "void-store", "void-api", "void-module"],
        why: "the confined side decides nothing: what judges, records or answers must not lie beside a hostile guest",
        instead: "send a message of void-ipc and let the supervisor decide",
    },
    Wall {
        from: &[
            "void-supervisor",
            "void-wasm",
            "void-store",
            "void-module",
            "void-policy",
            "void-api",
            "void-ipc",
        ],
        never: &[
            "wasmtime",
            "wasmtime-*",
            "cranelift-*",
            "wasmparser",
            "void-sandbox-worker",
            "void-sandbox-compiler",
        ],
        why: "the supervisor's process never parses wasm and never loads machine code, so that no module can reach it",
        instead: "ask a compiler or a worker process through void-ipc",
    },
    Wall {
        from: &["void-sandbox-worker"],
        never: &[
            "cranelift-codegen",
            "cranelift-frontend",
            "cranelift-native",
            "winch-*",
            "wasmtime-internal-cranelift",
        ],
        why: "a worker without a compiler has a million lines less for a guest to attack",
        instead: "keep `default-features = false` on wasmtime, and compile in void-sandbox-compiler",
    },
    Wall {
        from: &["void-policy", "void-api"],
        never: &["tokio", "hyper", "reqwest", "nix", "rusqlite", "tracing", "void-seccomp", "void-store"],
        why: "these crates judge and describe, without I/O, clock, randomness or log, which is what makes them testable",
        instead: "do the I/O in the supervisor and pass the value in",
    },
    Wall {
        from: &["void-wasm"],
        never: &["void-supervisor", "void-store", "void-policy", "void-module", "void-seccomp", "void-ipc"],
        why: "the command is an HTTP client and shares nothing with the server but the API's types",
        instead: "use the HTTP API; a type that both need belongs to void-api",
    },
];

/// Direct dependencies that only some members may name.
const DIRECT: &[(&str, &[&str], &str)] = &[
    (
        "bincode",
        &["ipc"],
        "bincode is unmaintained and must stay replaceable: encode through void-ipc's codec",
    ),
    (
        "anyhow",
        &["cli", "xtask", "tests"],
        "errors of a library are typed, so that they meet HTTP in one match: use thiserror",
    ),
    ("openssl", &[], "TLS is rustls with ring, which builds with gcc alone: turn the default features off"),
];

/// Checks every wall and every source rule.
pub(crate) fn run() -> Result<(), String> {
    eprintln!("── forbidden edges");
    let mut outcomes: Vec<Result<(), String>> = Vec::new();
    for wall in WALLS {
        for from in wall.from {
            outcomes.push(check_wall(wall, from));
        }
    }
    outcomes.extend(check_direct()?.into_iter().map(Err));
    outcomes.extend(source::violations(&root())?.into_iter().map(Err));
    all(outcomes)?;
    eprintln!("── forbidden edges: none");
    Ok(())
}

fn check_wall(wall: &Wall, from: &str) -> Result<(), String> {
    // What is linked: neither the tests' dependencies nor the build scripts'. Features as when built alone.
    let tree = answer(&["tree", "-p", from, "-e", "normal", "--prefix", "none", "--format", "{p}"])?;
    match tree
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next())
        .find(|name| reaches(wall.never, name))
    {
        None => Ok(()),
        Some(name) => Err(format!(
            "{from} depends on {name}: {}. Instead: {}. The way there: cargo tree -p {from} -e normal -i {name}",
            wall.why, wall.instead
        )),
    }
}

fn reaches(never: &[&str], name: &str) -> bool {
    never.iter().any(|rule| rule.strip_suffix('*').map_or(name == *rule, |start| name.starts_with(start)))
}

/// Reads the members' manifests for dependencies that only some may name.
fn check_direct() -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for member in source::members(&root())? {
        let manifest = source::read(&root().join(&member).join("Cargo.toml"))?;
        for (name, allowed, why) in DIRECT {
            let names_it = manifest.lines().any(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '.', '=']))
                    || line.contains(&format!("dependencies.{name}]"))
            });
            if names_it && !allowed.contains(&member.as_str()) {
                found.push(format!("{member}/Cargo.toml names {name}: {why}"));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::reaches;

    #[test]
    fn a_star_stands_for_every_name_that_begins_so() {
        assert!(reaches(&["cranelift-*"], "cranelift-codegen"));
        assert!(!reaches(&["cranelift-*"], "cranelift"));
        assert!(reaches(&["wasmtime"], "wasmtime"));
        assert!(!reaches(&["wasmtime"], "wasmtime-wasi"));
    }
}
