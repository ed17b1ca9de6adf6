#!/usr/bin/env bash
# Configures a build folder when that is needed: it is new, its options or its compiler
# changed, or ggml and libllama are others than before.
#
#   scripts/configure.sh BUILD [CMake options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=$1
shift
tools=$(pwd; printf '%s\n' "$@" | grep -E '^-DCMAKE_C(XX)?_COMPILER=' || true; cat deps/stamp)
stamp=$(printf '%s\n' "$tools" "$@")
[ "$(cat "$build/configured" 2>/dev/null)" != "$stamp" ] || exit 0
# Options that are no longer given live on in the cache, which starts anew; what was built stays, unless it was by other tools.
rm -f -- "$build/CMakeCache.txt" "$build/configured"
[ "$(cat "$build/tools" 2>/dev/null)" = "$tools" ] || rm -rf -- "$build/CMakeFiles"
generator=()
! command -v ninja >/dev/null || generator=(-G Ninja)
mkdir -p "$build"
cmake -S . -B "$build" "${generator[@]}" -Wno-dev "$@" >"$build/configure.log" 2>&1 || {
    cat "$build/configure.log" >&2
    exit 1
}
printf '%s\n' "$tools" >"$build/tools"
printf '%s\n' "$stamp" >"$build/configured"
