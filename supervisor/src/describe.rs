//! What a module is, in the API's words, as a compiler process has found it.

use std::fmt::Write;
use std::rc::Rc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use void_api::{CidText, Export, ExternKind, Import, Kind, ModuleInfo, Problem, ProblemCode, TypeName};
use void_ipc::message::{Item, ModuleKind, ValueType};

use crate::check::type_name;
use crate::compile::{Code, CompileError};
use crate::lane::Lane;

/// Describes `bytes` without compiling them.
///
/// # Errors
/// `module_invalid` where they are no module that runs here; `unavailable` where no compiler could look.
pub(crate) async fn describe(lane: &Rc<Lane>, bytes: Bytes) -> Result<ModuleInfo, Problem> {
    let code = lane.app.compiler.describe(&bytes).await.map_err(|error| match error {
        CompileError::Invalid(_) | CompileError::Budget(_) => {
            Problem::new(ProblemCode::ModuleInvalid, format!("this module cannot run here: {error}"))
        }
        CompileError::Crashed(_) | CompileError::Refused(_) | CompileError::Unavailable(_) => {
            tracing::error!(%error, "no compiler could look at a module");
            let detail =
                "no compiler could look at the module: try again, and tell the operator where it stays so";
            Problem::new(ProblemCode::Unavailable, detail)
        }
    })?;
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    Ok(info(&code, digest, bytes.len() as u64))
}

fn info(code: &Code, digest: [u8; 32], size: u64) -> ModuleInfo {
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
    }
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
