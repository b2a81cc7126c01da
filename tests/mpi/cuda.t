#!/bin/bash
# The CUDA backend decodes as the CPU does: greedy tokens and logits of the tiny models in every mode that both have, with kernels that
# run on the CPU (tests/simt); and its own bits are the same on any number of ranks, by either carrier, in any order of threads,
# with and without graphs, each of which is launched once a step.
set -u
. tests/mpi/cuda_lib.sh
unset CPU CUDA # options of a case; make has settings of these names
ids 150 12345 >"$D/ids.json"
ids 110 777 >"$D/short.json"
ids 450 4711 >"$D/long.json"
ids 129 99 >"$D/steps.json"
IDS=$D/ids.json TOKENS=6
SPARSE="--dense-below 0 --segments 3 --window 32 --sinks 4 --stripe 64"

# decode NAME OPTIONS...: greedy, into $C/NAME.json and $C/NAME.logits.
decode() {
    local name=$1
    shift
    "${RUN[@]}" run --ids "$IDS" -n "$TOKENS" --temp 0 --ignore-eos -t 1 --ctx 1024 --json --quiet \
        --logits "$C/$name.logits" "$@" >"$C/$name.json" 2>"$C/$name.err"
}
RUN=(timeout 120 "$RADAR")

# like NAME BOUND MODEL OPTIONS...: the CUDA backend against the CPU's.  CPU: options of the CPU alone.
like() {
    local name=$1 bound=$2 model=$3 said
    shift 3
    # shellcheck disable=SC2086
    if ! decode cpu -m "$TINY/$model" --backend cpu "$@" ${CPU:-} || ! decode cuda -m "$TINY/$model" --backend cuda "$@" ${CUDA:-}; then
        ok 1 "$name: runs ($(tail -n 1 "$C"/*.err))"
        return
    fi
    said=$(tests/mpi/near.py "$bound" "$C/cpu.logits" "$(value tokens "$C/cpu.json")" "$C/cuda.logits" "$(value tokens "$C/cuda.json")")
    ok $? "$name: as the CPU ($said)"
    case " $* " in
    *" --dense-below 0 "*)
        [ "$(value segments_scored "$C/cuda.json")" -gt 0 ] && [ "$(value segments_scored "$C/cpu.json")" = "$(value segments_scored "$C/cuda.json")" ]
        ok $? "$name: scores $(value segments_scored "$C/cuda.json") segments"
        ;;
    esac
}

# Exact products leave sums of another order, and what a cache of 16 bits rounds the other way: 2e-3, of which 1e-4 is measured.
EXACT="--precision exact --kv-type bf16"
H=llama-headdim-bf16
for model in llama-{bias-mha-f16,headdim-bf16,llama3rope-f16,sharded-bf16,tied-f32,untied-f32} qwen2-qkvbias-bf16 qwen3-qknorm-bf16; do
    # shellcheck disable=SC2086
    start like $model 2e-3 $model $EXACT $SPARSE
done
options() { # options BOUND OPTIONS...: on one model
    local bound=$1
    shift
    # shellcheck disable=SC2086
    start like "$*" "$bound" $H $SPARSE "$@"
}
options 2e-3 $EXACT --sketch-bits 1
options 2e-3 $EXACT --sketch-bits 4
options 2e-3 $EXACT --scorer mean
options 2e-3 $EXACT --scorer mean --segment 32
options 2e-3 $EXACT --scorer rf --rf-features 64
options 2e-3 $EXACT --scorer rf --rf-features 64 --rf-form pair --segment auto
options 2e-3 $EXACT --scan progressive
options 2e-3 $EXACT --select local
options 2e-3 $EXACT --share head
options 2e-3 $EXACT --prefill radar --dense-prefill 64
options 2e-3 --precision exact --kv-type f16
options 2e-3 --precision exact --kv-type f32
options 2e-2 --precision fast --kv-type bf16 # each backend rounds x in its own way
CPU="--kv-type f32" CUDA="--kv-type fp8" options 3e-1 --precision exact # 3 bits behind the point
# shellcheck disable=SC2086
start like "dense" 2e-3 $H $EXACT --attention dense
# shellcheck disable=SC2086
start like "streaming" 2e-3 $H $EXACT --attention streaming --window 32 --sinks 4
# shellcheck disable=SC2086
start like "streaming, restream" 2e-3 $H $EXACT --attention streaming --restream --window 32 --sinks 4
# shellcheck disable=SC2086
IDS=$D/long.json start like "450 tokens, qwen3" 2e-3 qwen3-qknorm-bf16 $EXACT $SPARSE

# ---- its own bits ----

figures() { value tokens "$1" && value coverage_mean "$1" && value attended_tokens_mean "$1" && value segments_scored "$1"; }
# same NAME: what $C/NAME has is what the run of one rank has.
same() {
    [ "$(figures "$C/$1.json")" = "$(figures "$C/one.json")" ] && cmp "$C/$1.logits" "$C/one.logits" >&2
    ok $? "$NAME: the bits of one rank with $1"
}
bits() { # bits NAME "RANKS:CARRIER ..." OPTIONS...
    local ways=$2 way p x
    NAME=$1
    shift 2
    local args=(-m "$TINY/$H" --backend cuda "$@")
    decode one "${args[@]}" || { ok 1 "$NAME: runs alone ($(tail -n 1 "$C/one.err"))"; return; }
    decode "graphs off" "${args[@]}" --graphs off
    same "graphs off"
    RADAR_SIMT_SEED=5 decode "another order of threads" "${args[@]}"
    same "another order of threads"
    for way in $ways; do
        p=${way%:*} x=${way#*:}
        RUN=(mpi "$p" "$RADAR")
        decode "$p ranks, $x" "${args[@]}" --exchange "$x"
        same "$p ranks, $x"
    done
}
# ---- graphs ----

counted() { sed "s/.*\b$1=\([0-9]*\).*/\1/" "$2"; }
# 20 more steps, none of which seals a block or begins a stripe: the same lists, after capture a launch a piece and nothing else.
launched() { # launched NAME PIECES OPTIONS...: PIECES: a step's graphs, 0: some, and launches between them
    local name=$1 pieces=$2 tokens rank more
    shift 2
    for tokens in 6 26; do
        TOKENS=$tokens
        RADAR_FAKE_REPORT=$C/$tokens decode $tokens -m "$TINY/$H" --backend cuda "$@" || { ok 1 "$name: runs ($(tail -n 1 "$C/$tokens.err"))"; return; }
    done
    sort -t= -k5,5 "$C/6" >"$C/few" # by captures: in the same order of ranks
    sort -t= -k5,5 "$C/26" >"$C/many"
    while read -r few <&3 && read -r many <&4; do
        echo "$few" >"$C/a" && echo "$many" >"$C/b"
        rank=$((${rank:--1} + 1))
        more=$(($(counted graph_launches "$C/b") - $(counted graph_launches "$C/a")))
        if [ "$pieces" = 1 ]; then
            [ $more = 20 ] && [ "$(counted launches "$C/a")" = "$(counted launches "$C/b")" ]
        else
            [ $more -gt 20 ] && [ $((more % 20)) = 0 ]
        fi
        ok $? "$name: $more graphs in 20 steps"
    done 3<"$C/few" 4<"$C/many"
}

# shellcheck disable=SC2086
IDS=$D/steps.json start launched "one rank" 1 $EXACT $SPARSE

if command -v mpirun >/dev/null; then
    # shellcheck disable=SC2086
    IDS=$D/short.json TOKENS=4 start bits "sketch" "2:staged 2:nccl 3:staged 3:nccl 4:staged 4:nccl" $EXACT $SPARSE
    # shellcheck disable=SC2086
    IDS=$D/short.json TOKENS=4 start bits "rf, share head, prefill radar, fp8" "2:staged 3:nccl" --kv-type fp8 $SPARSE --scorer rf --rf-features 64 --share head --prefill radar --dense-prefill 64
    for x in nccl staged; do
        RUN=(mpi 2 "$RADAR")
        # shellcheck disable=SC2086
        IDS=$D/steps.json start launched "2 ranks, $x" $([ $x = nccl ] && echo 1 || echo 0) $EXACT $SPARSE --exchange $x
    done
else
    echo "ok - bits over ranks # SKIP no mpirun" >"$D/$((n += 1)).tap"
fi
done_testing
