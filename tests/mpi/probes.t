#!/bin/bash
# What eval recall, calibrate, stats and bound say does not depend on the rank count, on threads or on how many rows are computed at
# once: their rows on a tiny model, compared without the words that name ranks, threads and batch.
# Environment: BUILD (build/cpu), NP ("2 3 4 8").
set -u
BUILD=${BUILD:-build/cpu}
NP=${NP:-2 3 4 8}
RADAR=$BUILD/radar
TINY=tests/golden/tiny/qwen3-qknorm-bf16
D=$(mktemp -d) || exit 1
trap 'rm -rf "$D"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=passive
n=0
ok() { n=$((n + 1)); if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi; }
ranks() { local p=$1; shift; timeout 300 mpirun --oversubscribe --bind-to none -np "$p" "$@"; }
figures() { sed 's/"key":"[0-9a-f]*",//g; s/"ranks":[0-9]*,//g; s/"threads":[0-9]*,//g; s/"batch":[0-9]*,//g; s/"command":"[^"]*",//g'; }

awk 'BEGIN { x = 12345; printf "["; for (i = 0; i < 600; i++) { x = (x * 1103515245 + 12345) % 2147483648; printf "%s%d", i ? "," : "", int(x / 65536) % 128 } print "]" }' >"$D/ids.json"

job() { # job NAME WORDS OPTIONS...: one row alone, which must hold WORDS, and the same row every other way
    local name=$1 words=$2 p; shift 2
    local args=(eval "$@" -m "$TINY" --ids "$D/ids.json" --ctx 600 --window 32 --stripe 64 --every 3 --quiet --json)
    "$RADAR" "${args[@]}" -t 1 2>"$D/err" | figures >"$D/one"
    grep -q "$words" "$D/one"
    ok $? "$name: runs alone $(tail -1 "$D/err")"
    "$RADAR" "${args[@]}" -t 2 --batch 7 2>"$D/err" | figures | cmp - "$D/one"
    ok $? "$name: 2 threads and 7 rows at once give the figures of 1 and 64"
    for p in $NP; do
        ranks "$p" "$RADAR" "${args[@]}" -t 1 2>"$D/err" | figures | cmp - "$D/one"
        ok $? "$name: $p ranks give the figures of 1"
    done
}

job "recall" '"recall_mean":0\.[0-9]' recall --tail 60 --segments 3 --dense-below 0
job "recall of the oracle" '"recall_mean":1.0,"hit1":1.0' recall --tail 30 --segments 3 --dense-below 0 --scorer exact --share head
job "recall without scores" '"recall_mean":null' recall --tail 30 --attention streaming
job "calibrate" '"error_p95":[0-9]' calibrate --tail 60 --segments 3 --dense-below 0
job "stats" '"effective_tokens":[0-9]' stats --tail 12
job "bound" '"predicted_sd":[0-9]' bound --tail 12 --rf-features 64
echo "1..$n"
