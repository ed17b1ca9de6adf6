#!/usr/bin/env bash
# Configures a build folder when that is needed: it is new, its options or its compiler
# changed, or ggml and libllama are others than before.
#
#   scripts/configure.sh BUILD [CMake options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=$1
shift
stamp=$(pwd; printf '%s\n' "$@"; cat deps/stamp)
[ "$(cat "$build/configured" 2>/dev/null)" != "$stamp" ] || exit 0
# Compilers and found libraries live in the cache: it starts anew with them.
rm -rf -- "$build/CMakeCache.txt" "$build/CMakeFiles" "$build/configured"
generator=()
! command -v ninja >/dev/null || generator=(-G Ninja)
mkdir -p "$build"
cmake -S . -B "$build" "${generator[@]}" -Wno-dev "$@" >"$build/configure.log" 2>&1 || {
    cat "$build/configure.log" >&2
    exit 1
}
printf '%s\n' "$stamp" >"$build/configured"
