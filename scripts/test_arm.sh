#!/usr/bin/env bash
# Tests the kernels for 64-bit ARM processors on another machine: they are built by a cross
# compiler and run under qemu. Then all of src/ is compiled for ARM without making anything of it.
#
#   scripts/test_arm.sh BUILD     needs a cross compiler and qemu (scripts/deps.sh arm)
#
# Ends with 77 (skipped) where one of them is missing. ARM_CC and ARM_QEMU name others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=$1/arm
cc=${ARM_CC:-aarch64-linux-gnu-gcc}
qemu=${ARM_QEMU:-$(command -v qemu-aarch64 || command -v qemu-aarch64-static || echo qemu-aarch64)}
# shellcheck disable=SC2086  # a compiler may come with options
for command in $cc "$qemu"; do
    [[ $command == -* ]] || command -v "$command" >/dev/null || {
        echo "test_arm: skipped, there is no $command (scripts/deps.sh arm)" >&2
        exit 77
    }
done

options=(-std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Werror
    -Iinclude -Isrc -isystem deps/include)
# The flags of cmake/GenarmKernels.cmake
dotprod=(-march=armv8.2-a+dotprod)

compile() { # OBJECT SOURCE [options]
    # shellcheck disable=SC2086
    ${CMAKE_C_COMPILER_LAUNCHER:-} $cc "${options[@]}" "${@:3}" -c "$2" -o "$build/$1.o"
}

rm -rf -- "$build"
mkdir -p "$build"
for name in ops/cpu ops/kernels_plain ops/few_int16_neon base/buf base/error base/utf8; do
    compile "$(basename "$name")" "src/$name.c"
done
compile few_int16_dotprod src/ops/few_int16_dotprod.c "${dotprod[@]}"
compile test_ops_few_exact tests/unit/test_ops_few_exact.c -Itests/arm
# shellcheck disable=SC2086
$cc -static "$build"/*.o -o "$build/test_ops_few_exact" -lm
for cpu in max cortex-a53; do
    echo "test_arm: $cpu"
    "$qemu" -cpu "$cpu" "$build/test_ops_few_exact"
done

# Headers of libraries are the same for every processor; a library that is not there is none of ours.
include=(-idirafter /usr/include -idirafter "/usr/include/$(cc -print-multiarch 2>/dev/null || true)")
for source in src/*/*.c; do
    case $source in
    *_avx2.c | *_avxvnni.c | *_avx512.c | *_avx512vnni.c | *_avx512bf16.c | *_amx.c) continue ;;
    *_dotprod.c) flags=("${dotprod[@]}") ;;
    *) flags=() ;;
    esac
    # shellcheck disable=SC2086
    $cc "${options[@]}" -DGENARM_VERSION='"0"' "${flags[@]}" "${include[@]}" -fsyntax-only "$source"
done
echo "test_arm: passed"
