//! Guests: the text files of `guests/`, one a behaviour, and modules too large to be written down.

use std::path::Path;

/// The bytes of `guests/NAME.wat`.
#[track_caller]
pub fn guest(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(format!("{name}.wat"));
    wat::parse_file(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The bytes of a module in text form.
#[track_caller]
pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|e| panic!("{e}"))
}

/// A valid module of about `kibibytes` KiB of dense arithmetic: small to check, long to compile.
pub fn slow_to_compile_module(kibibytes: usize) -> Vec<u8> {
    // get 0, const 0x12345, mul, get 1, rotl, get 0, xor, tee 1, const 7, shr_u, get 1, add, set 0
    const STEP: &[u8] = &[
        0x20, 0, 0x41, 0xc5, 0xc6, 0x04, 0x6c, 0x20, 1, 0x77, 0x20, 0, 0x73, 0x22, 1, 0x41, 7, 0x76, 0x20, 1,
        0x6a, 0x21, 0,
    ];
    let mut body = vec![0];
    while body.len() < 64 << 10 {
        body.extend_from_slice(STEP);
    }
    body.extend_from_slice(&[0x20, 0, 0x0b]);
    module_of(&body, kibibytes.div_ceil(64))
}

/// A valid module, small and quick to check, that takes a compiler minutes: the values of a few variables are merged at
/// the heads of 20,000 loops inside each other, from jumps all over them.
pub fn long_to_compile_module() -> Vec<u8> {
    const LOOPS: usize = 20_000;
    const VARIABLES: usize = 20;
    let mut body = vec![1];
    body.extend(leb(VARIABLES));
    body.push(0x7f);
    for number in 0..LOOPS {
        // loop, get, const 1, add, set
        body.extend_from_slice(&[0x03, 0x40, 0x20]);
        body.extend(leb(2 + number % VARIABLES));
        body.extend_from_slice(&[0x41, 1, 0x6a, 0x21]);
        body.extend(leb(2 + number * 7 % VARIABLES));
    }
    for number in 0..LOOPS {
        // get, br_if, end
        body.push(0x20);
        body.extend(leb(2 + number * 3 % VARIABLES));
        body.push(0x0d);
        body.extend(leb(number * 13 % (LOOPS - number)));
        body.push(0x0b);
    }
    body.extend_from_slice(&[0x20, 0, 0x0b]);
    module_of(&body, 1)
}

/// A valid module of `count` functions that do nothing.
pub fn module_of_many_functions(count: usize) -> Vec<u8> {
    // get 0, end
    module_of(&[0, 0x20, 0, 0x0b], count)
}

/// The same module with bytes of its own: a custom section that means nothing holds the number.
pub fn marked(module: &[u8], number: usize) -> Vec<u8> {
    let mut content = vec![4];
    content.extend_from_slice(b"mark");
    content.extend(number.to_le_bytes());
    let mut marked = module.to_vec();
    marked.push(0);
    marked.extend(leb(content.len()));
    marked.extend(content);
    marked
}

/// `count` functions of type (i32, i32) -> i32 with the same body; the first is exported as `run`.
fn module_of(body: &[u8], count: usize) -> Vec<u8> {
    let mut code = leb(count);
    for _ in 0..count {
        code.extend(leb(body.len()));
        code.extend_from_slice(body);
    }
    let mut functions = leb(count);
    functions.resize(functions.len() + count, 0);

    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in [
        (1, vec![1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
        (3, functions),
        (7, vec![1, 3, b'r', b'u', b'n', 0, 0]),
        (10, code),
    ] {
        module.push(id);
        module.extend(leb(content.len()));
        module.extend(content);
    }
    module
}

/// An unsigned LEB128 number.
fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
