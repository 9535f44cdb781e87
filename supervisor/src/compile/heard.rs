//! A module's description, message by message: from a compiler's socket, or from the file in which it was kept.

use void_ipc::limits::{EXTERNS, MEMORIES, NAME_BYTES, TYPES};
use void_ipc::message::{Extern, FromCompiler, Import, Item, MemoryBounds, ModuleKind};

/// The name of a start function's export: a short one, made longer until no export has it.
const START_EXPORT_BYTES: usize = 64 + EXTERNS;

/// What a module is, as a compiler has found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    /// What it is.
    pub(crate) kind: ModuleKind,
    /// What it exports.
    pub(crate) exports: Vec<Extern>,
    /// What it imports.
    pub(crate) imports: Vec<Import>,
    /// Its memories.
    pub(crate) memories: Vec<MemoryBounds>,
    /// What to call before anything else.
    pub(crate) start_export: Option<String>,
    /// Linear memory at the start, all memories together, 64 KiB pages.
    pub(crate) memory_pages: u64,
    /// Table elements at the start, all tables together.
    pub(crate) table_elements: u64,
}

impl Description {
    /// The messages that tell it: [`Heard`] makes the same of them again.
    pub(super) fn told(&self, code_bytes: u64) -> impl Iterator<Item = FromCompiler> + '_ {
        let last = FromCompiler::Compiled {
            kind: self.kind,
            // Both are bounded by `EXTERNS`.
            exports: u32::try_from(self.exports.len()).unwrap_or(u32::MAX),
            imports: u32::try_from(self.imports.len()).unwrap_or(u32::MAX),
            memories: self.memories.clone(),
            start_export: self.start_export.clone(),
            memory_pages: self.memory_pages,
            table_elements: self.table_elements,
            code_bytes,
        };
        let exports = self.exports.iter().cloned().map(FromCompiler::Export);
        exports.chain(self.imports.iter().cloned().map(FromCompiler::Import)).chain([last])
    }

    /// Memory that it takes, bytes, about.
    pub(super) fn weight(&self) -> u64 {
        let types = |item: &Item| match item {
            Item::Function { params, results } => params.len() + results.len(),
            Item::Memory { .. } | Item::Table { .. } | Item::Global { .. } | Item::Tag => 0,
        };
        let exports = self.exports.iter().map(|export| 128 + export.name.len() + types(&export.item));
        let imports = self
            .imports
            .iter()
            .map(|import| 128 + import.module.len() + import.name.len() + types(&import.item));
        exports.chain(imports).sum::<usize>() as u64
    }
}

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    exports: Vec<Extern>,
    imports: Vec<Import>,
}

/// What a message made of it.
#[derive(Debug)]
pub(super) enum Hearing {
    /// More is to come.
    More,
    /// That was all; the machine code has so many bytes.
    All(Description, u64),
    /// It is no part of a description.
    Other(FromCompiler),
}

impl Heard {
    /// Takes one message.
    ///
    /// # Errors
    /// What an honest compiler does not say.
    pub(super) fn hear(&mut self, message: FromCompiler) -> Result<Hearing, &'static str> {
        let too_much = "it describes more than a module may have";
        match message {
            FromCompiler::Export(export) => {
                if self.exports.len() >= EXTERNS || !fits(&[&export.name], &export.item) {
                    return Err(too_much);
                }
                self.exports.push(export);
            }
            FromCompiler::Import(import) => {
                if self.imports.len() >= EXTERNS || !fits(&[&import.module, &import.name], &import.item) {
                    return Err(too_much);
                }
                self.imports.push(import);
            }
            FromCompiler::Compiled {
                kind,
                exports,
                imports,
                memories,
                start_export,
                memory_pages,
                table_elements,
                code_bytes,
            } => {
                if (exports as usize, imports as usize) != (self.exports.len(), self.imports.len()) {
                    return Err("its description is not complete");
                }
                let long = start_export.as_ref().is_some_and(|name| name.len() > START_EXPORT_BYTES);
                if memories.len() > MEMORIES || long {
                    return Err(too_much);
                }
                let Heard { exports, imports } = std::mem::take(self);
                let all = Description {
                    kind,
                    exports,
                    imports,
                    memories,
                    start_export,
                    memory_pages,
                    table_elements,
                };
                return Ok(Hearing::All(all, code_bytes));
            }
            other @ (FromCompiler::Ready { .. }
            | FromCompiler::Refused(_)
            | FromCompiler::Invalid(_)
            | FromCompiler::Budget(_)) => return Ok(Hearing::Other(other)),
        }
        Ok(Hearing::More)
    }
}

/// Whether names and types are as long as an honest compiler lets them be. A frame would hold far more, and a description
/// is kept.
fn fits(names: &[&str], item: &Item) -> bool {
    let types = match item {
        Item::Function { params, results } => params.len().max(results.len()),
        Item::Memory { .. } | Item::Table { .. } | Item::Global { .. } | Item::Tag => 0,
    };
    names.iter().all(|name| name.len() <= NAME_BYTES) && types <= TYPES
}

#[cfg(test)]
pub(super) mod tests {
    use void_ipc::message::ValueType;

    use super::*;

    /// One of everything.
    pub(crate) fn example() -> Description {
        let function = Item::Function { params: vec![ValueType::I64], results: vec![ValueType::FuncRef] };
        let import = |name: &str, item| Import { module: "void".into(), name: name.into(), item };
        Description {
            kind: ModuleKind::Reactor,
            exports: vec![
                Extern { name: "f".into(), item: function.clone() },
                Extern { name: "m".into(), item: Item::Memory { min: 1, max: None } },
            ],
            imports: vec![
                import("emit", function),
                import("x", Item::Global { ty: ValueType::F32, mutable: true }),
            ],
            memories: vec![MemoryBounds { min: 1, max: None }],
            start_export: Some("void:start".into()),
            memory_pages: 1,
            table_elements: 3,
        }
    }

    #[test]
    fn what_is_told_is_heard_again() {
        let description = example();
        let mut heard = Heard::default();
        let mut last = None;
        for message in description.told(7) {
            assert!(last.is_none(), "nothing comes after the end");
            if let Hearing::All(all, size) = heard.hear(message).unwrap() {
                last = Some((all, size));
            }
        }
        assert_eq!(last, Some((description, 7)));
    }

    #[test]
    fn what_is_not_complete_or_too_much_is_refused() {
        let mut heard = Heard::default();
        let last = example().told(7).last().unwrap();
        assert!(heard.hear(last).is_err());
        let export = example().told(7).next().unwrap();
        let mut heard = Heard::default();
        for _ in 0..EXTERNS {
            assert!(matches!(heard.hear(export.clone()), Ok(Hearing::More)));
        }
        assert!(heard.hear(export).is_err());

        let long = Extern { name: "n".repeat(NAME_BYTES + 1), item: Item::Tag };
        assert!(Heard::default().hear(FromCompiler::Export(long)).is_err());
        let params = vec![ValueType::I32; TYPES + 1];
        let wide = Extern { name: "w".into(), item: Item::Function { params, results: vec![] } };
        assert!(Heard::default().hear(FromCompiler::Export(wide)).is_err());
    }
}
