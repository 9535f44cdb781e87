//! The few pieces of the binary format (WebAssembly core specification, 5) that rewriting a module takes. No meaning here.

/// A section with its length.
pub(crate) fn section(output: &mut Vec<u8>, id: u8, body: &[u8]) {
    output.push(id);
    push_unsigned(output, u32::try_from(body.len()).unwrap_or(u32::MAX));
    output.extend_from_slice(body);
}

/// LEB128, unsigned, 32 bits: the number, and what follows it.
pub(crate) fn unsigned(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}

/// LEB128, unsigned, 32 bits.
pub(crate) fn push_unsigned(output: &mut Vec<u8>, mut value: u32) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            output.push(byte);
            return;
        }
        output.push(byte | 0x80);
    }
}

/// A name with its length. Names are at most as long as the module that they are from, which is below 4 GiB.
pub(crate) fn push_name(output: &mut Vec<u8>, name: &str) {
    push_unsigned(output, u32::try_from(name.len()).unwrap_or(u32::MAX));
    output.extend_from_slice(name.as_bytes());
}
