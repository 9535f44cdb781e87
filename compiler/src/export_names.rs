//! Names for functions that are exported and not named: a backtrace of a module that was stripped still says more than
//! numbers.
//!
//! Nothing that the module does depends on names. One that cannot be read is as good as none.

use std::collections::{BTreeMap, HashSet};

use wasmparser::{ExternalKind, KnownCustom, Name, Parser, Payload};

use crate::binary::{push_name, push_unsigned, section};

/// Numbers of the binary format (WebAssembly core specification, appendix 7.4).
const CUSTOM: u8 = 0;
const FUNCTION_NAMES: u8 = 1;

/// A further name section with the names that are missing. `None` where none is.
pub(crate) fn missing(wasm: &[u8]) -> Option<Vec<u8>> {
    let mut exported: BTreeMap<u32, &str> = BTreeMap::new();
    let mut named: HashSet<u32> = HashSet::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::ExportSection(exports) => {
                for export in exports.into_iter().flatten() {
                    if matches!(export.kind, ExternalKind::Func) {
                        exported.entry(export.index).or_insert(export.name);
                    }
                }
            }
            Payload::CustomSection(custom) => {
                let KnownCustom::Name(names) = custom.as_known() else { continue };
                for name in names.into_iter().flatten() {
                    if let Name::Function(names) = name {
                        named.extend(names.into_iter().flatten().map(|naming| naming.index));
                    }
                }
            }
            _ => {}
        }
    }
    exported.retain(|index, _| !named.contains(index));
    if exported.is_empty() {
        return None;
    }
    let mut names = Vec::new();
    push_unsigned(&mut names, u32::try_from(exported.len()).ok()?);
    for (index, name) in exported {
        push_unsigned(&mut names, index);
        push_name(&mut names, name);
    }
    let mut body = Vec::with_capacity(names.len() + 16);
    push_name(&mut body, "name");
    section(&mut body, FUNCTION_NAMES, &names);
    let mut output = Vec::with_capacity(body.len() + 8);
    section(&mut output, CUSTOM, &body);
    Some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(wasm: &[u8]) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            let Payload::CustomSection(custom) = payload.unwrap() else { continue };
            let KnownCustom::Name(names) = custom.as_known() else { continue };
            for name in names {
                let Name::Function(names) = name.unwrap() else { continue };
                found.extend(
                    names.into_iter().map(|naming| naming.unwrap()).map(|n| (n.index, n.name.into())),
                );
            }
        }
        found
    }

    #[test]
    fn exports_without_a_name_get_theirs() {
        let mut wasm = wat::parse_str(
            r#"(module (import "a" "b" (func)) (func (export "z") (export "y")) (func $own (export "x")) (memory (export "m") 1))"#,
        )
        .unwrap();
        let names = missing(&wasm).unwrap();
        wasm.extend_from_slice(&names);
        wasmparser::validate(&wasm).unwrap();
        assert_eq!(names_of(&wasm), [(2, "own".to_owned()), (1, "z".to_owned())]);
    }

    #[test]
    fn a_module_that_names_all_is_left_alone() {
        let wasm = wat::parse_str(r#"(module (func $f (export "g")) (func))"#).unwrap();
        assert_eq!(missing(&wasm), None);
        assert_eq!(missing(b"rubbish"), None);
    }
}
