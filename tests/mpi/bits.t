#!/bin/bash
# Results do not depend on the rank count or on threads: logits of one job, compared byte for byte over P = 1, 2, 3, 4, 8
# ranks and 1, 2 threads; every scorer and mode on a tiny model with candidates on several shards, the defaults on the demo model.
# Environment: BUILD (build/cpu), NP ("2 3 4 8").
set -u
BUILD=${BUILD:-build/cpu}
NP=${NP:-2 3 4 8}
RADAR=$BUILD/radar
TINY=tests/golden/tiny/qwen3-qknorm-bf16
DEMO=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
D=$(mktemp -d) || exit 1
trap 'rm -rf "$D"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=passive
n=0
ok() { n=$((n + 1)); if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi; }
ranks() { local p=$1; shift; timeout 300 mpirun --oversubscribe --bind-to none -np "$p" "$@"; }

tokens() { awk -v n="$1" 'BEGIN { x = 12345; printf "["; for (i = 0; i < n; i++) { x = (x * 1103515245 + 12345) % 2147483648; printf "%s%d", i ? "," : "", int(x / 65536) % 128 } print "]" }'; }
tokens 600 >"$D/ids.json"
tokens 8210 >"$D/long.json"
IDS=$D/ids.json CTX=600 FROM=400

job() { # job NAME OPTIONS...: eval on the tiny model, alone and on every rank count, all logits equal
    local name=$1; shift
    local args=(eval ppl -m "$TINY" --ids "$IDS" --ctx "$CTX" --from "$FROM" --window 32 --sinks 4 --stripe 64 --quiet --json "$@")
    "$RADAR" "${args[@]}" -t 1 --logits "$D/one" >"$D/one.json" 2>"$D/err" || { ok 1 "$name: runs alone ($(tail -1 "$D/err"))"; return; }
    if [[ " $* " == *" --dense-below 0 "* ]]; then
        local shards; shards=$(sed -n 's/.*"candidate_shards": *\([0-9]*\).*/\1/p' "$D/one.json")
        ok $(( ${shards:-0} >= 3 ? 0 : 1 )) "$name: candidates from ${shards:-0} shards, at least 3"
    fi
    "$RADAR" "${args[@]}" -t 2 --logits "$D/two" >/dev/null 2>"$D/err" && cmp "$D/one" "$D/two"
    ok $? "$name: 2 threads give the bits of 1"
    local p
    for p in $NP; do
        ranks "$p" "$RADAR" "${args[@]}" -t 1 --logits "$D/many" >/dev/null 2>"$D/err" && cmp "$D/one" "$D/many"
        ok $? "$name: $p ranks give the bits of 1"
        rm -f "$D/many"
    done
}

for scorer in sketch "sketch --sketch-bits 1" "sketch --sketch-bits 4" mean outlier minmax exact "rf --rf-form plain --rf-features 64" "rf --rf-form pair --rf-features 64"; do
    # shellcheck disable=SC2086
    job "$scorer" --dense-below 0 --segments 3 --scorer $scorer
done
job "progressive" --dense-below 0 --segments 1 --scan progressive
job "progressive, select local, 16 shards" --dense-below 0 --segments 8 --scan progressive --select local --shards 16
job "progressive, plain C" --dense-below 0 --segments 1 --scan progressive --isa plain
job "mean, segments of 32" --dense-below 0 --segments 3 --scorer mean --segment 32
job "mean, segments of 64, select local" --dense-below 0 --segments 8 --scorer mean --segment 64 --select local
job "rf centred, tempered, segments of 64" --dense-below 0 --segments 3 --scorer rf --rf-features 64 --rf-center --rf-temper 0.5 --segment 64
IDS=$D/long.json CTX=8210 FROM=8170 job "rf, automatic segments, across their change at 8192" --dense-below 0 --segments 3 --scorer rf --rf-features 64 --segment auto
job "share head" --dense-below 0 --segments 3 --share head
job "select local" --dense-below 0 --segments 8 --select local
for pick in bottom random last; do job "pick $pick" --dense-below 0 --segments 3 --pick $pick; done
job "sparse prefill" --dense-below 0 --segments 3 --prefill radar --dense-prefill 64
job "sparse prefill, chunks that cut blocks, share head, select local" --attention dense --segments 3 --prefill radar --dense-prefill 0 --chunk 40 --share head --select local
job "sparse prefill, mean, segments of 64, random picks" --attention streaming --segments 1 --prefill radar --dense-prefill 0 --scorer mean --segment 64 --pick random
job "exact precision, f32 cache" --dense-below 0 --segments 3 --precision exact --kv-type f32
job "bf16 cache, 16 shards" --dense-below 0 --segments 3 --kv-type bf16 --shards 16
job "q8 cache" --dense-below 0 --segments 3 --kv-type q8
job "q8 cache, dense, chunks of 96" --attention dense --kv-type q8 --chunk 96
job "q8 cache, exact keys" --dense-below 0 --segments 3 --kv-type q8 --scorer exact
job "q8 cache, its own upper bits" --dense-below 0 --segments 3 --kv-type q8 --scorer q8top
job "q8 cache, h2o" --attention h2o --budget 96 --kv-type q8
job "plain C" --dense-below 0 --segments 3 --isa plain
job "streaming" --attention streaming
job "streaming, restream" --attention streaming --restream
job "streaming, restream, sinks in several shards" --attention streaming --restream --sinks 150
job "subgen" --attention subgen
job "subgen, few clusters, bf16 cache" --attention subgen --budget 64 --kv-type bf16
job "dense" --attention dense
for attention in h2o snapkv subgen; do job "$attention, ranks without a token" --attention $attention --budget 96 --stripe 256; done
for share in group head; do
    job "h2o, share $share" --attention h2o --budget 96 --share $share
    job "snapkv, share $share" --attention snapkv --budget 96 --observe 24 --share $share
done

# Reservations so long that unequal shares would cut passes differently: no rank may be left waiting.
args=(eval ppl -m "$TINY" --ids "$D/ids.json" --from 300 -c 800000 --dense-below 0 --window 32 --quiet --json)
"$RADAR" "${args[@]}" -t 1 --logits "$D/one" >/dev/null 2>"$D/err"
ranks 3 "$RADAR" "${args[@]}" -t 1 --logits "$D/many" >/dev/null 2>"$D/err" && cmp "$D/one" "$D/many"
ok $? "800,000 tokens reserved: 3 ranks give the bits of 1"

# A sampled continuation: the same draw on every rank.
args=(run -m "$TINY" --ids "$D/ids.json" -n 24 --temp 1.5 --seed 7 --ignore-eos --window 32 --dense-below 0 --segments 3 --stripe 64 --ctx 640 --quiet --json)
"$RADAR" "${args[@]}" -t 1 --logits "$D/one" | sed 's/.*"tokens": *\(\[[^]]*\]\).*/\1/' >"$D/tokens"
for p in $NP; do
    ranks "$p" "$RADAR" "${args[@]}" -t 1 --logits "$D/many" | sed 's/.*"tokens": *\(\[[^]]*\]\).*/\1/' >"$D/tokens-many"
    cmp "$D/one" "$D/many" && cmp "$D/tokens" "$D/tokens-many" && [ "$(tr -cd , <"$D/tokens" | wc -c)" = 23 ]
    ok $? "sampling: $p ranks give the tokens and logits of 1"
done

if [ -f "$DEMO" ] || [ -z "${RADAR_NO_MODEL:-}" ]; then
    args=(run -m "$DEMO" --ids tests/golden/ids-kjv-4096.u32 -n 8 --temp 0 --ignore-eos --quiet --json)
    "$RADAR" "${args[@]}" -t 2 --logits "$D/one" >"$D/one.json"
    grep -q '"segments_scored": *[1-9]' "$D/one.json"
    ok $? "demo model, defaults: segments are scored"
    "$RADAR" "${args[@]}" -t 1 --logits "$D/many" >/dev/null && cmp "$D/one" "$D/many"
    ok $? "demo model, defaults: 1 thread gives the bits of 2"
    for p in 2 3; do
        ranks "$p" "$RADAR" "${args[@]}" -t 1 --logits "$D/many" >/dev/null && cmp "$D/one" "$D/many"
        ok $? "demo model, defaults: $p ranks give the bits of 1"
    done
fi
echo "1..$n"
