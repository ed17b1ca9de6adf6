#!/usr/bin/env bash
# genarm and libllama beside others that answer under one ARM, on SmolLM2-135M in F16: one table, of one run.
#
#   bench/peers.sh [--install] [--official FOLDER] [options of peer_decode.py]
#
#   --install            first fetches PyTorch and llama-cpp-python, and what the published code needs (a few GB, into deps/)
#   --official FOLDER    a checkout of the published GenARM code (github.com/Yuancheng-Xu/GenARM); without it its row is missing
#
# GENARM=program, MODEL=file.gguf, ARM=file.gguf (a random one is made where none is named), PEERS=folder and
# PEERS_OFFICIAL=folder (Python environments, deps/peers and deps/peers-official) can be others. What cannot be run is said
# below the table, with the reason. Nothing else should compute meanwhile.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
genarm=${GENARM:-$here/build/genarm}
model=${MODEL:-$here/models/SmolLM2-135M-Instruct-F16.gguf}
peers=${PEERS:-$here/deps/peers}
official=${PEERS_OFFICIAL:-$here/deps/peers-official}

die() { printf 'peers: %s\n' "$*" >&2; exit 1; }

if [ "${1:-}" = --install ]; then
    shift
    "$here/scripts/deps.sh" peers-decode
fi
case ${1:-} in -h | --help) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
[ -x "$genarm" ] || die "no program $genarm: run make, or name it with GENARM"
[ -f "$model" ] || die "no model $model: run make models, or name one with MODEL"
[ -x "$peers/bin/python" ] || die "no Python environment $peers: run $0 --install, or name one with PEERS"

arm=${ARM:-}
if [ -z "$arm" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf -- "$folder"' EXIT
    arm=$folder/random.gguf
    "$(dirname "$genarm")/tests/write_adapter" "$model" "$arm" 1 ||
        die "cannot make an ARM: run make, or name one with ARM"
fi
set -- --genarm "$genarm" --model "$model" --arm "$arm" "$@"
[ ! -x "$official/bin/python" ] || set -- --official-python "$official/bin/python" "$@"
"$peers/bin/python" "$here/bench/peer_decode.py" "$@"
