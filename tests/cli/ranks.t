#!/bin/bash
# Ranks fail together: the same exit code everywhere, one line in the whole job, and nobody waits for ever.
. tests/cli/cli.sh
printf '[1,2,3,4,5,6,7,8]' >"$D/ids.json"
job=("$RADAR" run -m "$MODEL" --ids "$D/ids.json" -n 4 --ignore-eos -t 1 --quiet)

# together NAME CODE PATTERN COMMAND...: mpirun says of each rank how it ended; none may have ended otherwise.
together() {
    local name=$1 want=$2 pattern=$3
    shift 3
    try "$@"
    judge "$name" "$want" "$pattern"
}
mpi() { try launch/mpirun.sh "$@"; }

mpi 2 "${job[@]}" --json
[ "$code" = 0 ] && [ "$(wc -l <"$D/out")" = 1 ] && python3 -m json.tool "$D/out" >/dev/null && grep -q '"ranks":2' "$D/out"
ok $? "2 ranks print one object"
try launch/mpirun.sh 2 "$RADAR" run -m "$MODEL" --ids "$D/ids.json" -n 4 --ignore-eos -t 1 --profile-steps
[ "$code" = 0 ] && grep -q '^exchange X1 qkv .* 30.0$' "$D/err" && grep -q '^exchange X5 down ' "$D/err" && grep -q '^exchanges: rank 0 ' "$D/err"
ok $? "--profile-steps names the exchanges of a step, one X1 a layer"
together "more ranks than shards" 78 'shards' launch/mpirun.sh 3 "${job[@]}" --shards 2
together "unknown option on all ranks" 64 'unknown option' launch/mpirun.sh 2 "${job[@]}" --no-such
together "missing model on all ranks" 66 'nowhere' launch/mpirun.sh 2 "$RADAR" run -m "$D/nowhere.gguf" -p x --quiet
together "prompt that only rank 0 reads" 66 'nowhere.txt' launch/mpirun.sh 3 "$RADAR" run -m "$MODEL" -f "$D/nowhere.txt" --quiet
together "prompt longer than --ctx" 78 'ctx' launch/mpirun.sh 2 "${job[@]}" -c 4
together "output that cannot be made" 73 'no/such' launch/mpirun.sh 2 "${job[@]}" --logits "$D/no/such/file"
together "output onto a full disk" 74 '/dev/full' launch/mpirun.sh 2 "${job[@]}" --logits /dev/full
together "options differ: number" 76 'rank 1.*-n' launch/mpirun.sh 1 "${job[@]}" : -np 1 "${job[@]}" -n 5
together "options differ: attention" 76 'attention' launch/mpirun.sh 1 "${job[@]}" : -np 1 "${job[@]}" --attention dense
together "options differ: an output" 76 'logits' launch/mpirun.sh 1 "${job[@]}" : -np 1 "${job[@]}" --logits "$D/l"
together "commands differ" 76 'eval ppl' launch/mpirun.sh 1 "${job[@]}" : -np 1 "$RADAR" eval ppl -m "$MODEL" --ids "$D/ids.json" --quiet
together "one rank with a wrong option" 64 'rank 1.*no-such' launch/mpirun.sh 1 "${job[@]}" : -np 1 "${job[@]}" --no-such
together "one rank with a missing model" 66 'rank 1.*nowhere' launch/mpirun.sh 1 "${job[@]}" : -np 1 "${job[@]}" -m "$D/nowhere.gguf"
cp "$MODEL" "$D/other.gguf"
printf '\001' | dd of="$D/other.gguf" bs=1 seek=$(($(stat -c %s "$MODEL") / 2)) conv=notrunc status=none
truncate -s +32 "$D/other.gguf"
together "ranks see different models" 76 'model' launch/mpirun.sh 1 "${job[@]}" : -np 1 "${job[@]}" -m "$D/other.gguf"
mpi 1 "${job[@]}" -t 1 : -np 1 "${job[@]}" -t 2
ok "$code" "threads may differ"
mpi 2 "$RADAR" run -m "$MODEL" --ids "$D/ids.json" -n 2 --ignore-eos
cores=$(nproc) each=$((cores > 1 ? cores / 2 : 1))
[ "$code" = 0 ] && grep -Eq "[ ,]$each threads?[,)]" "$D/err"
ok $? "2 ranks that are bound to nothing share the cores"
mpi 3 "$RADAR" tokenize -m "$MODEL" -p hello
[ "$code" = 0 ] && [ "$(wc -l <"$D/out")" = 1 ]
ok $? "tokenize under mpirun prints once"
mpi 3 "$RADAR" -h
[ "$code" = 0 ] && [ "$(grep -c '^usage' "$D/out")" = 1 ]
ok $? "help under mpirun prints once"

# Signals stop all ranks at one step, with one line and exit 75.
stops() { # stops NAME SIGNAL COMMAND...
    local name=$1 signal=$2 pid waited=0
    shift 2
    rm -f "$D/out" # its first byte says that decoding goes on
    "$@" >"$D/out" 2>"$D/err" </dev/null &
    pid=$!
    while [ ! -s "$D/out" ] && [ $waited -lt 300 ]; do sleep 0.1; waited=$((waited + 1)); done
    kill -s "$signal" "$pid"
    timeout 20 tail --pid="$pid" -f /dev/null || kill -9 "$pid"
    wait "$pid"
    code=$?
    judge "$name" 75 'stopped by signal'
}
long=("$RADAR" run -m "$MODEL" --ids "$D/ids.json" -n -1 --ignore-eos -t 1 --quiet)
stops "TERM to one process" TERM "${long[@]}"
stops "INT to one process" INT "${long[@]}"
stops "USR1 through mpirun" USR1 launch/mpirun.sh 2 "${long[@]}"
done_testing
