//! What a module is, and what it exports and imports: the supervisor does not look into wasm itself.

use std::collections::HashSet;

use void_ipc::limits::{DETAIL_BYTES, EXTERNS, NAME_BYTES, TYPES};
use void_ipc::message::{Extern, Import, Item, MemoryBounds, ModuleKind, ValueType};
use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{Encoding, Parser, Payload, ValType, Validator, WasmFeatures};

/// A module's description.
pub(crate) struct Description {
    pub(crate) kind: ModuleKind,
    pub(crate) exports: Vec<Extern>,
    pub(crate) imports: Vec<Import>,
    pub(crate) memories: Vec<MemoryBounds>,
    /// A name that no export has, where the module has a start function.
    pub(crate) start_export: Option<String>,
    /// At the start, all together, 64 KiB pages.
    pub(crate) memory_pages: u64,
    /// At the start, all together.
    pub(crate) table_elements: u64,
}

impl Description {
    fn of(kind: ModuleKind) -> Description {
        Description {
            kind,
            exports: vec![],
            imports: vec![],
            memories: vec![],
            start_export: None,
            memory_pages: 0,
            table_elements: 0,
        }
    }
}

/// What the engine runs: WebAssembly 2.0 and the finished proposals that need no garbage collector and no thread.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        .union(WasmFeatures::TAIL_CALL)
        .union(WasmFeatures::EXTENDED_CONST)
        .union(WasmFeatures::MULTI_MEMORY)
        .union(WasmFeatures::MEMORY64)
        .union(WasmFeatures::RELAXED_SIMD)
        .difference(WasmFeatures::GC_TYPES)
}

/// Validates `wasm` and describes it.
///
/// # Errors
/// One line: why it is not a module that can run here.
pub(crate) fn describe(wasm: &[u8]) -> Result<Description, String> {
    if !wasm.starts_with(b"\0asm") {
        return Err(
            "this is not WebAssembly: it does not begin with \\0asm; send the binary format, not text".into(),
        );
    }
    if Parser::is_component(wasm) {
        return Ok(Description::of(ModuleKind::Component));
    }
    let types = Validator::new_with_features(features())
        .validate_all(wasm)
        .map_err(|error| refusal(wasm, &error.to_string()))?;
    let types = types.as_ref();
    let mut description = Description::of(ModuleKind::Module);
    // Imported ones are counted too: they would be given, and are not offered.
    for memory in (0..types.memory_count()).map(|index| types.memory_at(index)) {
        description.memory_pages = description.memory_pages.saturating_add(memory.initial);
        description.memories.push(MemoryBounds { min: memory.initial, max: memory.maximum });
    }
    for table in (0..types.table_count()).map(|index| types.table_at(index)) {
        description.table_elements = description.table_elements.saturating_add(table.initial);
    }
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|error| one_line(&error.to_string()))? {
            Payload::Version { encoding: Encoding::Component, .. } => return Err("a component inside".into()),
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(|error| one_line(&error.to_string()))?;
                    let item = types.entity_type_from_import(&import).map(|entity| item(types, entity));
                    description.imports.push(Import {
                        module: name(import.module)?,
                        name: name(import.name)?,
                        item: item.transpose()?.unwrap_or(Item::Tag),
                    });
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.map_err(|error| one_line(&error.to_string()))?;
                    let item = types.entity_type_from_export(&export).map(|entity| item(types, entity));
                    description.exports.push(Extern {
                        name: name(export.name)?,
                        item: item.transpose()?.unwrap_or(Item::Tag),
                    });
                }
            }
            Payload::StartSection { .. } => description.start_export = Some(String::new()),
            _ => {}
        }
        if description.exports.len().max(description.imports.len()) > EXTERNS {
            return Err(format!("more than {EXTERNS} exports or imports"));
        }
    }
    description.kind = kind(&description.exports);
    if description.start_export.is_some() {
        description.start_export = Some(unused_name(&description.exports));
    }
    Ok(description)
}

fn kind(exports: &[Extern]) -> ModuleKind {
    let has = |wanted: &str| {
        exports.iter().any(|export| {
            export.name == wanted
                && matches!(&export.item, Item::Function { params, results } if params.is_empty() && results.is_empty())
        })
    };
    if has("_start") {
        ModuleKind::Command
    } else if has("_initialize") {
        ModuleKind::Reactor
    } else {
        ModuleKind::Module
    }
}

fn unused_name(exports: &[Extern]) -> String {
    let taken: HashSet<&str> = exports.iter().map(|export| export.name.as_str()).collect();
    let mut candidate = "void:start".to_owned();
    while taken.contains(candidate.as_str()) {
        candidate.push('_');
    }
    candidate
}

fn name(name: &str) -> Result<String, String> {
    if name.len() > NAME_BYTES {
        return Err(format!("an import or export has a name of more than {NAME_BYTES} bytes"));
    }
    Ok(name.to_owned())
}

fn item(types: TypesRef<'_>, entity: EntityType) -> Result<Item, String> {
    Ok(match entity {
        EntityType::Func(id) | EntityType::FuncExact(id) => {
            let function = types[id].unwrap_func();
            Item::Function {
                params: value_types(function.params())?,
                results: value_types(function.results())?,
            }
        }
        EntityType::Memory(memory) => Item::Memory { min: memory.initial, max: memory.maximum },
        EntityType::Table(table) => Item::Table { min: table.initial, max: table.maximum },
        EntityType::Global(global) => {
            Item::Global { ty: value_type(global.content_type), mutable: global.mutable }
        }
        EntityType::Tag(_) => Item::Tag,
    })
}

fn value_types(types: &[ValType]) -> Result<Vec<ValueType>, String> {
    if types.len() > TYPES {
        return Err(format!("an exported or imported function has more than {TYPES} parameters or results"));
    }
    Ok(types.iter().copied().map(value_type).collect())
}

fn value_type(ty: ValType) -> ValueType {
    match ty {
        ValType::I32 => ValueType::I32,
        ValType::I64 => ValueType::I64,
        ValType::F32 => ValueType::F32,
        ValType::F64 => ValueType::F64,
        ValType::V128 => ValueType::V128,
        ValType::Ref(reference) if reference.is_func_ref() => ValueType::FuncRef,
        ValType::Ref(_) => ValueType::ExternRef,
    }
}

/// Why `wasm` is refused: what the validator says, and where that is of no help, what it means.
fn refusal(wasm: &[u8], said: &str) -> String {
    let with_host_references = features().union(WasmFeatures::GC_TYPES);
    if Validator::new_with_features(with_host_references).validate_all(wasm).is_ok() {
        return "it uses externref, which needs a garbage collector that this engine is built without: use numbers or \
                funcref"
            .into();
    }
    one_line(said)
}

/// The first line of `text`, bounded.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(DETAIL_BYTES / 4).collect()
}
