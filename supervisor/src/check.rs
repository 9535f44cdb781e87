//! Whether a module offers what a request asks: no unknown import, the entry's types, the arguments, its size at the
//! start. Pure.

mod offered;

use void_api::{ExecRequest, Reason, TypeName, ValType, Value};
use void_ipc::limits::TABLE_ELEMENTS;
use void_ipc::message::{Item, ValueType};
use void_policy::settings::Limits;

use crate::compile::Code;
use crate::outcome::{self, Outcome, unknown_import};
use offered::Offer;

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
pub(crate) fn check(code: &Code, request: &ExecRequest, limits: &Limits) -> Result<Checked, Box<Outcome>> {
    imports(code)?;
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
    let types = |types: &[ValueType]| types.iter().copied().map(val_type).collect::<Option<Vec<ValType>>>();
    let params = types(params).ok_or_else(|| mismatch(&reference))?;
    let results = types(results).ok_or_else(|| mismatch(&reference))?;
    let args = request.typed_args(&params, Some(&results)).map_err(|error| mismatch(&error))?;
    initialisation(code, &request.entry.name)?;
    size(code, limits)?;
    Ok(Checked { args })
}

fn imports(code: &Code) -> Result<(), Box<Outcome>> {
    for import in &code.imports {
        let name = format!("{}.{}", shown(&import.module), shown(&import.name));
        let why = match offered::look_up(import) {
            Offer::Fits => continue,
            Offer::Unknown => unknown_import(&name),
            Offer::OtherType(ours) => {
                format!(
                    "the module imports {name} as something else than the function {ours} that it is: import it so"
                )
            }
        };
        return Err(Box::new(Outcome::error(Reason::ModuleInvalid, why)));
    }
    Ok(())
}

/// What a zygote would find when it instantiates the module.
fn size(code: &Code, limits: &Limits) -> Result<(), Box<Outcome>> {
    let detail = if code.memory_pages > u64::from(limits.mem_pages) {
        format!("its memories begin with {} pages", code.memory_pages)
    } else if code.table_elements > TABLE_ELEMENTS as u64 {
        format!("its tables begin with {} elements", code.table_elements)
    } else {
        return Ok(());
    };
    Err(Box::new(outcome::larger_than_allowed(&detail, limits)))
}

/// Whether the module uses WASI, and so is to be given argv, env and the rest.
pub(crate) fn uses_wasi(code: &Code) -> bool {
    code.imports.iter().any(|import| import.module == offered::WASI)
}

/// A reactor's initialisation, which is called before any entry but itself and a command's.
const INITIALIZE: &str = "_initialize";

/// What to call before `entry`, in order: the module's start function, and a reactor's initialisation.
pub(crate) fn calls_before(code: &Code, entry: &str) -> Vec<String> {
    let initialize = initialises(entry) && code.function(INITIALIZE).is_some();
    code.start_export.iter().cloned().chain(initialize.then(|| INITIALIZE.to_owned())).collect()
}

/// Whether a reactor is initialised before this entry. A command begins with `_start` by itself.
fn initialises(entry: &str) -> bool {
    entry != INITIALIZE && entry != "_start"
}

/// An initialisation that would have to be called and cannot be.
fn initialisation(code: &Code, entry: &str) -> Result<(), Box<Outcome>> {
    match code.function(INITIALIZE) {
        Some(Item::Function { params, results })
            if initialises(entry) && !(params.is_empty() && results.is_empty()) =>
        {
            Err(Box::new(Outcome::error(
                Reason::ModuleInvalid,
                "the module's _initialize, which is called once before the entry, takes parameters or returns results: \
                 build it without, or give it another name",
            )))
        }
        _ => Ok(()),
    }
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
    match val_type(ty) {
        Some(ty) => TypeName::from(ty),
        None if ty == ValueType::FuncRef => TypeName::from("funcref"),
        None => TypeName::from("externref"),
    }
}

fn val_type(ty: ValueType) -> Option<ValType> {
    match ty {
        ValueType::I32 => Some(ValType::I32),
        ValueType::I64 => Some(ValType::I64),
        ValueType::F32 => Some(ValType::F32),
        ValueType::F64 => Some(ValType::F64),
        ValueType::V128 => Some(ValType::V128),
        ValueType::FuncRef | ValueType::ExternRef => None,
    }
}
