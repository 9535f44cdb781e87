//! Turning a module's start function into an export, so that instantiating runs no guest code.
//!
//! A zygote instantiates each module once, before any run; the run process then calls this export
//! first, under its own limits. The module is valid when it comes here: sections are where they belong.

use crate::binary::{push_name, push_unsigned, section, unsigned};

/// Section numbers of the binary format (WebAssembly core specification, 5.5.2).
const EXPORT: u8 = 7;
const START: u8 = 8;
const HEADER_BYTES: usize = 8;
/// The export kind "function".
const FUNCTION: u8 = 0;

/// `wasm` without its start section, its start function exported as `name`. `None` when it has none.
pub(crate) fn export_instead(wasm: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut output = wasm.get(..HEADER_BYTES)?.to_vec();
    let mut rest = wasm.get(HEADER_BYTES..)?;
    let mut exports: Option<&[u8]> = None;
    let mut found = false;
    while let Some((&id, after)) = rest.split_first() {
        let (length, body) = unsigned(after)?;
        let (body, next) = body.split_at_checked(length as usize)?;
        match id {
            // Held back: the start section follows at once, if there is one.
            EXPORT => exports = Some(body),
            START => {
                let (function, _) = unsigned(body)?;
                section(&mut output, EXPORT, &with_one_more(exports.take(), name, function)?);
                found = true;
            }
            _ => {
                if let Some(exports) = exports.take() {
                    section(&mut output, EXPORT, exports);
                }
                section(&mut output, id, body);
            }
        }
        rest = next;
    }
    if let Some(exports) = exports {
        section(&mut output, EXPORT, exports);
    }
    found.then_some(output)
}

fn with_one_more(exports: Option<&[u8]>, name: &str, function: u32) -> Option<Vec<u8>> {
    let (count, entries) = match exports {
        Some(exports) => unsigned(exports)?,
        None => (0, [].as_slice()),
    };
    let mut body = Vec::with_capacity(entries.len() + name.len() + 16);
    push_unsigned(&mut body, count.checked_add(1)?);
    body.extend_from_slice(entries);
    push_name(&mut body, name);
    body.push(FUNCTION);
    push_unsigned(&mut body, function);
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_becomes_an_export_and_the_module_stays_valid() {
        for exports in ["", r#"(export "f" (func 0)) (export "g" (func 0))"#] {
            let wat = format!(
                r#"(module (memory 1) (func) (global (mut i32) i32.const 0) {exports} (start 0) (elem func 0) (data "x"))"#
            );
            let wasm = wat::parse_str(&wat).unwrap();
            let output = export_instead(&wasm, "void:start").unwrap();
            wasmparser::validate(&output).unwrap();
            let sections: Vec<_> =
                wasmparser::Parser::new(0).parse_all(&output).map(Result::unwrap).collect();
            assert!(
                !sections.iter().any(|section| matches!(section, wasmparser::Payload::StartSection { .. }))
            );
            let names: Vec<_> = sections
                .iter()
                .filter_map(|section| match section {
                    wasmparser::Payload::ExportSection(exports) => Some(exports.clone()),
                    _ => None,
                })
                .flatten()
                .map(|export| export.unwrap().name.to_owned())
                .collect();
            assert_eq!(names.last().map(String::as_str), Some("void:start"));
        }
    }

    #[test]
    fn without_start_there_is_nothing_to_do() {
        let wasm = wat::parse_str("(module (func (export \"f\")))").unwrap();
        assert_eq!(export_instead(&wasm, "void:start"), None);
    }

    #[test]
    fn truncated_input_is_none_or_unchanged_but_never_a_panic() {
        let wasm = wat::parse_str("(module (func) (export \"f\" (func 0)) (start 0))").unwrap();
        for end in 0..wasm.len() {
            let _ = export_instead(&wasm[..end], "void:start");
        }
    }
}
