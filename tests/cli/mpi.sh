# genarm train under mpirun: several processes train what one does, end together, and go on
# from a checkpoint in any number.
. "$(dirname "$0")/../support/cli.sh"
command -v mpirun >/dev/null || { echo "skipped: there is no mpirun (Debian: openmpi-bin)"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
    OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 \
    OMPI_MCA_btl_vader_single_copy_mechanism=none MPIEXEC_TIMEOUT=300
set -m # jobs get signals as they do in an interactive shell

# A rank writes its process id down, then becomes the program.
cat >rank.sh <<'END'
echo $$ >pid.${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}
exec "$@"
END

# Runs N processes; mpirun's exit status must be 0 or, with STATUS other, that of the failing rank.
together() { # STATUS N ARGUMENTS…
    local expected=$1 n=$2 status=0
    shift 2
    mpirun -n "$n" "$genarm" "$@" >out 2>err </dev/null || status=$?
    [ "$status" = "$expected" ] || fail "status $status, not $expected: mpirun -n $n genarm $*" out err
}

# Every number of a log within 1e-5 of another's; of long ones, whose rounding grows, the first 24 lines within 1e-3.
same_curve() {
    python3 - "$1" "$2" <<'END' || fail "the curves $1 and $2 differ" "$1" "$2"
import json, sys
a, b = ([x for x in map(json.loads, open(name)) if "step" in x] for name in sys.argv[1:])
for x in a + b:
    x.pop("pairs_per_second", None)
assert len(a) == len(b) and len(a) > 4
tolerance = 1e-5 if len(a) < 24 else 1e-3
for x, y in zip(a[:24], b):
    assert x.keys() == y.keys()
    for k in x:
        assert abs(x[k] - y[k]) <= tolerance * max(1, abs(x[k])), (k, x, y)
END
}

python3 - >pairs.jsonl <<'END'
import json
things = ["rain", "bread", "music", "trains", "rivers", "lamps", "cats", "snow", "chess", "tea", "glass", "maps"]
for i, thing in enumerate(things * 3):
    print(json.dumps({"prompt": f"{i}: what about {thing}?", "chosen": f"Wonderful! I love {thing}!" * (1 + i % 3), "rejected": f"Bad. I hate {thing}."}))
END
settings=(train -m "$tiny" -d pairs.jsonl --lora-rank 4 --beta 0.5 -lr 2e-3 --batch-size 8 --lora-dropout 0.1 -s 5)

# Commands that do not share their work say so; a program that cannot share says so too.
together 2 2 info "$tiny"
says err "cannot be shared by the 2 processes that mpirun started"
PMI_SIZE=1 PMI_RANK=0 run 0 info "$tiny"
PMI_SIZE=many PMI_RANK=0 run 0 info "$tiny"
PMI_SIZE=2 PMI_RANK=1 run 1 "${settings[@]}" -o x.gguf
if grep -q "built without MPI" err; then
    says err "rank 1: error: started 2 times by mpirun"
    check "nothing is written" [ ! -e x.gguf ]
    echo "the rest is skipped: built without MPI"
    finish
fi
says err "started 2 times, but MPI counts 1 ranks"

# The curve of one process, and one voice.
run 0 "${settings[@]}" -o alone.gguf --log alone.jsonl --epochs 2
for n in 1 2 3; do
    together 0 $n "${settings[@]}" -o ranks.gguf --log ranks$n.jsonl --epochs 2
    same_curve ranks$n.jsonl alone.jsonl
    check "one rank speaks" [ "$(grep -c "36 of 36 pairs are used" err) $(wc -l <out)" = "1 1" ]
    check "the checkpoint is gone" [ ! -e ranks.gguf.ckpt ]
done
says err "3 ranks train together"
cp ranks.gguf three.gguf
together 0 3 "${settings[@]}" -o ranks.gguf --epochs 2
same ranks.gguf three.gguf
together 0 2 "${settings[@]}" --loss dpo --beta 0 -o policy.gguf --log policy2.jsonl --epochs 2 --json
json_true out 'r[0]["steps"] == 10'
run 0 "${settings[@]}" --loss dpo --beta 0 -o policy.gguf --log policy.jsonl --epochs 2
same_curve policy2.jsonl policy.jsonl

# The default model on pairs of the demo.
head -n 9 "$source_dir/data/demo/concise.train.jsonl" >few.jsonl
few=(train -m "$model" -d few.jsonl --batch-size 2 --val-split 0.1 -lr 1e-4 --max-length 96)
run 0 "${few[@]}" -o one.gguf --log one.jsonl
together 0 2 "${few[@]}" -o two.gguf --log two.jsonl
same_curve two.jsonl one.jsonl

# What differs is named with its rank, what fails on one rank ends all.
apart() { # TEXT, what rank 1 does otherwise…
    local text=$1 status=0
    shift
    mpirun -n 1 "$genarm" "${settings[@]}" -o x.gguf : -n 1 "$genarm" "${settings[@]}" -o x.gguf "$@" \
        >out 2>err </dev/null || status=$?
    check "ranks that differ end with 1 ($status)" [ "$status" = 1 ]
    says err "genarm: error: rank 1: $text"
    check "it is said once" [ "$(grep -c "error: rank 1" err)" = 1 ]
    check "nothing is written" [ ! -e x.gguf ]
}
apart "the batch_size is 4 here, but 8 on rank 0" --batch-size 4
apart "the data is " -d few.jsonl
apart "none.jsonl: cannot open" -d none.jsonl
apart "the loss is " --loss hinge
apart "the model is " -m "$golden/llama3.gguf"
apart "none.gguf: cannot open" -m none.gguf
together 1 2 "${settings[@]}" -o pairs.jsonl/x.gguf
check "a failure is said once" [ "$(grep -c "genarm: .*error: " err)" = 1 ]

# Starts N processes in the background that go on for long, and waits for some steps.
long=("${settings[@]}" --epochs 40 -o long.gguf --log long.jsonl --save-every 3)
begin() {
    rm -f long.jsonl
    mpirun -n "$1" bash rank.sh "$genarm" "${long[@]}" "${@:2}" >out 2>err </dev/null &
    mpirun=$!
    for _ in $(seq 1200); do
        [ "$(cat long.jsonl 2>/dev/null | wc -l)" -lt 12 ] || return
        sleep 0.05
    done
    fail "nothing is trained" err
}
ends() { # WHAT STATUS…
    local status=0
    wait $mpirun || status=$?
    case " ${*:2} " in *" $status "*) ;; *) fail "$1: status $status" err ;; esac
}
together 0 2 "${long[@]}"
mv long.gguf whole.gguf
mv long.jsonl whole.jsonl

# A killed rank ends the job; the checkpoint is whole, and goes on to the same end.
begin 2
kill -KILL "$(cat pid.1)"
ends "a killed rank" 137
check "there is no adapter yet" [ ! -e long.gguf ]
check "there is a checkpoint" [ -s long.gguf.ckpt/checkpoint ]
together 0 2 "${long[@]}" --resume
same long.gguf whole.gguf
rm long.gguf

# A signal to mpirun or to one rank stops all at the same step. Open MPI's mpirun passes SIGTERM on, kills what lives a
# second later, and ends with 1. The run is far too long to end by itself first.
for stop in "TERM mpirun 1 143" "INT mpirun 1 130 143" "TERM rank 143" "INT rank 130" "USR1 rank 138"; do
    set -- $stop
    begin 2 --epochs 10000
    if [ "$2" = rank ]; then kill -s "$1" "$(cat pid.1)"; else kill -s "$1" $mpirun; fi
    ends "$1 to $2" "${@:3}"
    check "$1 to $2 is told once" [ "$(grep -c "stopped after step" err)" = 1 ]
    check "$1 to $2 leaves a checkpoint" [ -s long.gguf.ckpt/checkpoint ]
    check "$1 to $2 leaves no adapter" [ ! -e long.gguf ]
done
rm -r long.gguf.ckpt

# Another number of processes goes on from there.
begin 3
kill -KILL "$(cat pid.2)"
ends "a killed rank" 137
run 0 "${long[@]}" --resume
same_curve long.jsonl whole.jsonl
check "no temporary file is left" [ "$(find . -name '*.tmp*')" = "" ]
finish
