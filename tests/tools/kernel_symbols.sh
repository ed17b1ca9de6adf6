#!/usr/bin/env bash
# Fails when a file that is compiled for some instruction set gives a function to the linker: one that another file
# has too, inline or not, might be taken from here and run by a processor without those instructions. Only
# tables may be seen, which src/ops/cpu.c chooses among.
#
#   tests/tools/kernel_symbols.sh NM OBJECT...
set -euo pipefail

nm=$1
shift
n_files=0
failed=0
for object in "$@"; do
    [[ $object =~ _(avx2|avxvnni|avx512|avx512vnni|avx512bf16|amx|neon|dotprod)\.c\.o(bj)?$ ]] || continue
    n_files=$((n_files + 1))
    symbols=$("$nm" -g "$object")
    functions=$(awk '$(NF - 1) ~ /^[TtWwVvui]$/ && NF == 3 {print $3}' <<<"$symbols")
    if [ -n "$functions" ]; then
        echo "kernel_symbols: $object has functions that other files can see:" $functions >&2
        failed=1
    fi
done
case $(uname -m) in x86_64 | aarch64) [ $n_files -gt 0 ] || { echo "kernel_symbols: no file to look at" >&2; failed=1; } ;; esac
echo "kernel_symbols: $n_files files"
exit $failed
