#!/usr/bin/env bash
# Makes the variants of the default model that tests and benchmarks compare.
#
#   scripts/models.sh BUILD
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

exec 9>models/lock
! command -v flock >/dev/null || flock 9 # two builds at once
base=models/SmolLM2-135M-Instruct
for type in F32 F16 Q8_0; do
    [ "$base-$type.gguf" -nt "$base-Q4_1.gguf" ] ||
        "$1/tests/requantize" "$base-Q4_1.gguf" "$base-$type.gguf" "$type"
done
