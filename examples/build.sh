#!/usr/bin/env bash
# Builds the example guests: the same bytes wherever this is done.
#
#   examples/build.sh [--out FOLDER] [c] [assemblyscript] [rust]
#
# Without a name all three. Without --out each lands beside its source, and SHA256SUMS is written anew. Fetches the compilers if
# need be (toolchains.sh). Exit code 3: a compiler cannot be had on this machine.
set -euo pipefail
cd "$(dirname "$0")"

out=""
if [ "${1:-}" = --out ]; then
    mkdir -p "$2"
    out="$(cd "$2" && pwd)"
    shift 2
fi
[ $# -gt 0 ] || set -- c assemblyscript rust

# Sources are named relative to this folder, so that no path of this machine can get into a module.
c() {
    # A cache of its own: zig would write to the home folder.
    ZIG_GLOBAL_CACHE_DIR="$scratch/zig" ZIG_LOCAL_CACHE_DIR="$scratch/zig" "$tools/ziglang/zig" cc \
        -target wasm32-freestanding -mcpu=generic -O2 -g0 -std=c11 -Wall -Wextra -Werror -nostdlib \
        -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=65536 -o "$1" guest-c/guest.c
}

assemblyscript() {
    node "$tools/node_modules/assemblyscript/bin/asc.js" guest-assemblyscript/guest.ts \
        --config guest-assemblyscript/asconfig.json --outFile "$scratch/guest.wasm"
    mv "$scratch/guest.wasm" "$1"
}

rust() {
    local common=(--target wasm32-unknown-unknown --edition 2021 -D warnings --remap-path-prefix "$PWD=." -C opt-level=s
        -C panic=abort -C codegen-units=1)
    rustc() { LD_LIBRARY_PATH="$tools/usr/lib/x86_64-linux-gnu" "$tools/usr/bin/rustc" "$@"; }
    rustc "${common[@]}" --crate-type rlib --crate-name void_guest -o "$scratch/libvoid_guest.rlib" bindings/rust/src/lib.rs
    rustc "${common[@]}" -C lto=fat -C strip=symbols --crate-type cdylib --crate-name guest_rust \
        --extern "void_guest=$scratch/libvoid_guest.rlib" \
        -C linker-flavor=wasm-ld -C linker="$tools/usr/lib/llvm-14/bin/wasm-ld" -o "$1" guest-rust/src/lib.rs
}

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
for name in "$@"; do
    tools="$(./toolchains.sh "$name")" || exit $?
    "$name" "${out:-guest-$name}/guest-$name.wasm"
    chmod 644 "${out:-guest-$name}/guest-$name.wasm"
done
[ -n "$out" ] || sha256sum guest-*/*.wasm >SHA256SUMS
