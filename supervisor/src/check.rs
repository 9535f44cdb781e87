//! Whether a module offers what a request asks: no unknown import, the entry's types, the arguments. Pure.

use void_api::{ExecRequest, Reason, TypeName, ValType, Value};
use void_ipc::message::{Item, ValueType};

use crate::compile::Code;
use crate::outcome::{Outcome, unknown_import};

/// A request that fits its module.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The arguments, of the function's own types.
    pub(crate) args: Vec<Value>,
}

/// Holds the request against the module.
///
/// # Errors
/// How the run ends instead.
pub(crate) fn check(code: &Code, request: &ExecRequest) -> Result<Checked, Box<Outcome>> {
    if let Some(import) = code.imports.first() {
        let name = format!("{}.{}", shown(&import.module), shown(&import.name));
        return Err(Box::new(Outcome::error(Reason::ModuleInvalid, unknown_import(&name))));
    }
    let Some(Item::Function { params, results }) = code.function(&request.entry.name) else {
        return Err(Box::new(Outcome::error(Reason::EntryNotFound, not_found(code, &request.entry.name))));
    };
    let mismatch = |error: &dyn std::fmt::Display| {
        Box::new(Outcome::error(Reason::EntryTypeMismatch, error.to_string()))
    };
    let names = |types: &[ValueType]| types.iter().copied().map(type_name).collect::<Vec<TypeName>>();
    request.entry.check(&names(params), &names(results)).map_err(|error| mismatch(&error))?;
    let reference =
        "the function takes or returns references, which have no JSON form: export one that takes numbers";
    if results.contains(&ValueType::Reference) {
        return Err(mismatch(&reference));
    }
    let types: Option<Vec<ValType>> = params.iter().copied().map(val_type).collect();
    let types = types.ok_or_else(|| mismatch(&reference))?;
    let args = request.typed_args(&types).map_err(|error| mismatch(&error))?;
    Ok(Checked { args })
}

fn not_found(code: &Code, name: &str) -> String {
    let functions: Vec<String> = code
        .exports
        .iter()
        .filter(|export| matches!(export.item, Item::Function { .. }))
        .take(16)
        .map(|export| shown(&export.name))
        .collect();
    match functions.as_slice() {
        [] => format!("the module exports no function {}, and no other either: export one", shown(name)),
        some => format!("the module exports no function {}: it has {}", shown(name), some.join(", ")),
    }
}

/// A name of the guest's choosing, fit to stand in a sentence.
fn shown(name: &str) -> String {
    void_api::clip(name).to_string()
}

/// The type as the API calls it.
pub(crate) fn type_name(ty: ValueType) -> TypeName {
    val_type(ty).map_or_else(|| TypeName::from("ref"), TypeName::from)
}

fn val_type(ty: ValueType) -> Option<ValType> {
    match ty {
        ValueType::I32 => Some(ValType::I32),
        ValueType::I64 => Some(ValType::I64),
        ValueType::F32 => Some(ValType::F32),
        ValueType::F64 => Some(ValType::F64),
        ValueType::V128 => Some(ValType::V128),
        ValueType::Reference => None,
    }
}
