//! What a module is and what it offers, as `PUT /v1/modules` and `GET /v1/modules/{cid}` tell it. Reading a module is
//! not done here.

use serde::{Deserialize, Serialize};

use crate::TypeName;

crate::words::words! {
    /// What the bytes are.
    Kind {
        /// A core module.
        Module = "module",
        /// A core module with `_start`.
        Command = "command",
        /// A core module with `_initialize`.
        Reactor = "reactor",
        /// A component.
        Component = "component",
    }
}

crate::words::words! {
    /// What an export or import is.
    ExternKind {
        /// A function.
        Func = "func",
        /// A memory.
        Memory = "memory",
        /// A table.
        Table = "table",
        /// A global.
        Global = "global",
        /// An exception tag.
        Tag = "tag",
    }
}

/// A module by its digest, with its outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModuleInfo {
    /// CIDv1, raw, sha2-256.
    pub cid: String,
    /// 64 hex digits, lower case.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// What the bytes are.
    pub kind: Kind,
    /// In the module's order.
    pub exports: Vec<Export>,
    /// In the module's order.
    pub imports: Vec<Import>,
    /// Its memories, imported ones first.
    #[serde(default)]
    pub memories: Vec<Memory>,
    /// The caps that calling its imports needs, in alphabetical order: `emit`, `http`, `kv`. Importing is free.
    #[serde(default)]
    pub caps: Vec<String>,
}

/// The size of a memory, pages of 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Memory {
    /// At the start.
    pub min: u64,
    /// At most, where the module says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    pub max: Option<u64>,
}

/// One export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Export {
    /// Its name, any UTF-8.
    pub name: String,
    /// What it is.
    pub kind: ExternKind,
    /// Its type for people, such as `(i32, i32) -> (i32)`.
    #[serde(rename = "type")]
    pub ty: String,
    /// A function's parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<TypeName>"))]
    pub params: Option<Vec<TypeName>>,
    /// A function's results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<TypeName>"))]
    pub results: Option<Vec<TypeName>>,
}

impl Export {
    /// A function, with its type written out.
    #[must_use]
    pub fn func(name: String, params: Vec<TypeName>, results: Vec<TypeName>) -> Self {
        let ty = crate::entry::show_type(&params, &results);
        Self { name, kind: ExternKind::Func, ty, params: Some(params), results: Some(results) }
    }

    /// Anything but a function.
    #[must_use]
    pub const fn other(name: String, kind: ExternKind, ty: String) -> Self {
        Self { name, kind, ty, params: None, results: None }
    }
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Import {
    /// The module that it is asked from.
    pub module: String,
    /// Its name there.
    pub name: String,
    /// What it is.
    pub kind: ExternKind,
    /// Its type for people.
    #[serde(rename = "type")]
    pub ty: String,
}
