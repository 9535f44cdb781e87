//! What a module is, in the API's words, as a compiler process has found it.

use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use void_api::{
    CidText, Export, ExternKind, Import, Kind, Memory, ModuleInfo, Problem, ProblemCode, TypeName,
};
use void_ipc::message::{Item, ModuleKind, ValueType};

use crate::check::type_name;
use crate::compile::{Code, CompileError};
use crate::lane::Lane;

/// Describes a tenant's `bytes` without compiling them. `sha256`: their digest, where it is known.
///
/// # Errors
/// `module_invalid` where they are no module that runs here; `unavailable` where no compiler could look.
pub(crate) async fn describe(
    lane: &Rc<Lane>,
    tenant: &Arc<str>,
    sha256: Option<[u8; 32]>,
    bytes: &Bytes,
) -> Result<Arc<Code>, Problem> {
    lane.app.compiler.describe(tenant, sha256, bytes).await.map_err(|error| match error {
        CompileError::Invalid(_) | CompileError::Budget(_) => {
            Problem::new(ProblemCode::ModuleInvalid, format!("this module cannot run here: {error}"))
        }
        CompileError::Late(_)
        | CompileError::Crashed(_)
        | CompileError::Refused(_)
        | CompileError::Unavailable(_) => {
            tracing::error!(%error, "no compiler could look at a module");
            let detail =
                "no compiler could look at the module: try again, and tell the operator where it stays so";
            Problem::new(ProblemCode::Unavailable, detail)
        }
    })
}

/// What was found, in the API's words. `digest`: of the bytes, of which there are `size`.
pub(crate) fn info(code: &Code, digest: [u8; 32], size: u64) -> ModuleInfo {
    let sha256 = digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    ModuleInfo {
        cid: CidText::raw(digest).to_string(),
        sha256,
        size,
        kind: match code.kind {
            ModuleKind::Module => Kind::Module,
            ModuleKind::Command => Kind::Command,
            ModuleKind::Reactor => Kind::Reactor,
            ModuleKind::Component => Kind::Component,
        },
        exports: code.exports.iter().map(|export| shown_export(&export.name, &export.item)).collect(),
        imports: code
            .imports
            .iter()
            .map(|import| {
                let Export { name, kind, ty, .. } = shown_export(&import.name, &import.item);
                Import { module: import.module.clone(), name, kind, ty }
            })
            .collect(),
        memories: code.memories.iter().map(|memory| Memory { min: memory.min, max: memory.max }).collect(),
        caps: caps(code),
    }
}

/// The caps that calling its imports would need, each once. Importing is free.
fn caps(code: &Code) -> Vec<String> {
    let needs = |import: &void_ipc::message::Import| {
        let function = matches!(import.item, Item::Function { .. });
        let (group, _) = import.name.split_once('_').unwrap_or((&import.name, ""));
        (function && import.module == "void").then_some(())?;
        ["emit", "http", "kv"].into_iter().find(|cap| *cap == group)
    };
    let mut caps: Vec<String> = code.imports.iter().filter_map(needs).map(str::to_owned).collect();
    caps.sort();
    caps.dedup();
    caps
}

fn shown_export(name: &str, item: &Item) -> Export {
    let name = name.to_owned();
    let bounds = |min: u64, max: Option<u64>| match max {
        Some(max) => format!("{min} to {max}"),
        None => format!("{min} or more"),
    };
    match item {
        Item::Function { params, results } => Export::func(name, types(params), types(results)),
        Item::Memory { min, max } => {
            Export::other(name, ExternKind::Memory, format!("{} pages of 64 KiB", bounds(*min, *max)))
        }
        Item::Table { min, max } => {
            Export::other(name, ExternKind::Table, format!("{} elements", bounds(*min, *max)))
        }
        Item::Global { ty, mutable } => {
            let ty = types(&[*ty]).pop().map(|ty| ty.to_string()).unwrap_or_default();
            Export::other(name, ExternKind::Global, if *mutable { format!("mut {ty}") } else { ty })
        }
        Item::Tag => Export::other(name, ExternKind::Tag, "tag".into()),
    }
}

fn types(types: &[ValueType]) -> Vec<TypeName> {
    types.iter().copied().map(type_name).collect()
}
