//! What a module may import, by name and type: the functions of `docs/abi.md`, and WASI preview 1 (its `witx` document,
//! lowered to core types). The worker defines the same; a test imports all of it.

use void_ipc::message::{Import, Item, ValueType};

/// The module whose functions are WASI preview 1.
pub(crate) const WASI: &str = "wasi_snapshot_preview1";

/// Name, parameters, results; `i` is i32 and `I` is i64.
type Function = (&'static str, &'static str, &'static str);

const VOID: &[Function] = &[
    ("emit", "iiii", "i"),
    ("kv_get", "iiiiii", "i"),
    ("kv_set", "iiiiii", "i"),
    ("kv_delete", "iiii", "i"),
    ("http_fetch", "iiiiiiii", "i"),
    ("http_headers", "ii", "i"),
    ("http_body_len", "", "i"),
    ("http_body", "iii", "i"),
];

const WASI_FUNCTIONS: &[Function] = &[
    ("args_get", "ii", "i"),
    ("args_sizes_get", "ii", "i"),
    ("clock_res_get", "ii", "i"),
    ("clock_time_get", "iIi", "i"),
    ("environ_get", "ii", "i"),
    ("environ_sizes_get", "ii", "i"),
    ("fd_advise", "iIIi", "i"),
    ("fd_allocate", "iII", "i"),
    ("fd_close", "i", "i"),
    ("fd_datasync", "i", "i"),
    ("fd_fdstat_get", "ii", "i"),
    ("fd_fdstat_set_flags", "ii", "i"),
    ("fd_fdstat_set_rights", "iII", "i"),
    ("fd_filestat_get", "ii", "i"),
    ("fd_filestat_set_size", "iI", "i"),
    ("fd_filestat_set_times", "iIIi", "i"),
    ("fd_pread", "iiiIi", "i"),
    ("fd_prestat_dir_name", "iii", "i"),
    ("fd_prestat_get", "ii", "i"),
    ("fd_pwrite", "iiiIi", "i"),
    ("fd_read", "iiii", "i"),
    ("fd_readdir", "iiiIi", "i"),
    ("fd_renumber", "ii", "i"),
    ("fd_seek", "iIii", "i"),
    ("fd_sync", "i", "i"),
    ("fd_tell", "ii", "i"),
    ("fd_write", "iiii", "i"),
    ("path_create_directory", "iii", "i"),
    ("path_filestat_get", "iiiii", "i"),
    ("path_filestat_set_times", "iiiiIIi", "i"),
    ("path_link", "iiiiiii", "i"),
    ("path_open", "iiiiiIIii", "i"),
    ("path_readlink", "iiiiii", "i"),
    ("path_remove_directory", "iii", "i"),
    ("path_rename", "iiiiii", "i"),
    ("path_symlink", "iiiii", "i"),
    ("path_unlink_file", "iii", "i"),
    ("poll_oneoff", "iiii", "i"),
    ("proc_exit", "i", ""),
    ("proc_raise", "i", "i"),
    ("random_get", "ii", "i"),
    ("sched_yield", "", "i"),
    ("sock_accept", "iii", "i"),
    ("sock_recv", "iiiiii", "i"),
    ("sock_send", "iiiii", "i"),
    ("sock_shutdown", "ii", "i"),
];

/// How an import compares with what is offered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is offered, and of this type.
    Fits,
    /// There is a function of this name, and this is its type in words.
    OtherType(String),
    /// There is nothing of this name.
    Unknown,
}

/// Looks `import` up.
pub(super) fn look_up(import: &Import) -> Offer {
    let functions = match import.module.as_str() {
        "void" => VOID,
        WASI => WASI_FUNCTIONS,
        _ => return Offer::Unknown,
    };
    let Some((_, params, results)) = functions.iter().find(|(name, ..)| *name == import.name) else {
        return Offer::Unknown;
    };
    match &import.item {
        Item::Function { params: theirs, results: given } if is(theirs, params) && is(given, results) => {
            Offer::Fits
        }
        _ => Offer::OtherType(format!("({}) -> ({})", words(params), words(results))),
    }
}

fn is(types: &[ValueType], letters: &str) -> bool {
    types.iter().copied().eq(letters.chars().map(of_letter))
}

fn of_letter(letter: char) -> ValueType {
    if letter == 'I' { ValueType::I64 } else { ValueType::I32 }
}

fn words(letters: &str) -> String {
    let names: Vec<&str> = letters.chars().map(|letter| if letter == 'I' { "i64" } else { "i32" }).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(module: &str, name: &str, params: &str, results: &str) -> Import {
        let types = |letters: &str| letters.chars().map(of_letter).collect();
        let item = Item::Function { params: types(params), results: types(results) };
        Import { module: module.into(), name: name.into(), item }
    }

    #[test]
    fn only_the_exact_name_and_type_fits() {
        assert_eq!(look_up(&function("void", "emit", "iiii", "i")), Offer::Fits);
        assert_eq!(look_up(&function(WASI, "clock_time_get", "iIi", "i")), Offer::Fits);
        let emit = Offer::OtherType("(i32, i32, i32, i32) -> (i32)".into());
        for (params, results) in [("iii", "i"), ("iiiii", "i"), ("iiiI", "i"), ("iiii", ""), ("iiii", "ii")] {
            assert_eq!(look_up(&function("void", "emit", params, results)), emit);
        }
        let memory =
            Import { module: "void".into(), name: "emit".into(), item: Item::Memory { min: 1, max: None } };
        assert_eq!(look_up(&memory), emit);
        for (module, name) in
            [("void", "Emit"), ("void", ""), ("env", "emit"), ("", "emit"), ("wasi_unstable", "fd_write")]
        {
            assert_eq!(look_up(&function(module, name, "iiii", "i")), Offer::Unknown, "{module}.{name}");
        }
    }
}
