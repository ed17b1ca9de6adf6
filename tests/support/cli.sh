# Sourced by the scripts of tests/cli, which get the program's path and the source folder:
# runs the program as a user does, in an empty folder, and checks what came of it.
#
#   adapter FILE SEED         writes a random adapter for the default model
#   run STATUS ARGUMENTS…    runs genarm; its exit status must be STATUS; fills out and err
#   says FILE TEXT           the file (out, err, …) must contain the text
#   same FILE FILE           both must be equal
#   json FILE EXPRESSION     Python's value of the expression, in which r is the list of
#                            the file's JSON records; fails on anything that is no JSON
#   check WHAT COMMAND…      the command must succeed
#   fail WHAT                counts a failure
#   finish                   the last line of a script
set -u
genarm=$(realpath "$1")
source_dir=$(realpath "$2")
golden=$source_dir/tests/golden
model=$source_dir/models/SmolLM2-135M-Instruct-Q4_1.gguf
tiny=$golden/llama.gguf # F32: the same however many rows are computed at once, to what text can show
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
cd "$folder" || exit 1
# The interpreter itself: what stands before it may take longer to start than it.
PATH=$(dirname "$(python3 -c 'import sys; print(sys.executable)')"):$PATH
unset ${!LLAMA_ARG_*} NO_COLOR
export LLAMA_ARG_THREADS=1 # tests run beside each other: threads that wait for one another would starve
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$1"
    [ $# -lt 2 ] || sed 's/^/    /' "${@:2}" | head -n 20
}

adapter() {
    "$(dirname "$genarm")/tests/write_adapter" "$model" "$1" "$2" || exit 1
}

run() {
    local expected=$1 status=0
    shift
    "$genarm" "$@" >out 2>err </dev/null || status=$?
    [ "$status" = "$expected" ] || fail "status $status, not $expected: genarm $*" out err
}

says() {
    grep -qF -- "$2" "$1" || fail "$1 does not say: $2" "$1"
}

same() {
    cmp -s -- "$1" "$2" || fail "$1 and $2 differ" "$1" "$2"
}

check() {
    local what=$1
    shift
    "$@" || fail "$what"
}

json() {
    python3 -IS -c '
import json, sys
def refuse(name): raise ValueError(name)
r = [json.loads(line, parse_constant=refuse) for line in open(sys.argv[1], encoding="utf-8")]
value = eval(sys.argv[2])
print(value if isinstance(value, str) else json.dumps(value))' "$1" "$2" ||
        { echo "no JSON $BASHPID $RANDOM"; return 1; } # two that fail are not the same
}

# The expression must be true.
json_true() {
    local value
    value=$(json "$1" "$2" 2>&1) || true
    [ "$value" = true ] || fail "$1: not true: $2 ($value)" "$1"
}

finish() {
    [ "$failures" = 0 ] || { printf '%s checks failed\n' "$failures"; exit 1; }
    exit 0
}
