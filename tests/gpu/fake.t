#!/bin/bash
# The programs of tests/gpu.sh on the fake of a GPU: every operation beside the CPU's, and whole decodes on 1, 2 and 4 ranks.
cd "$(dirname "$0")/../.." || exit 1
programs=${BUILD:-build/cpu}/fake/gpu
D=$(mktemp -d) || exit 1
trap 'rm -rf "$D"' EXIT
n=0

# holds NAME LINES COMMAND...: it ends well, with at least so many lines that are fine and none that is not.
holds() {
    local name=$1 least=$2 fine
    shift 2
    n=$((n + 1))
    if timeout -k 5 240 "$@" >"$D/out" 2>"$D/err" </dev/null && fine=$(grep -c $'\tok$' "$D/out") && [ "$fine" -ge "$least" ]; then
        echo "ok $n - $name, $fine times"
    else
        echo "not ok $n - $name"
        { grep -v $'\tok$' "$D/out"; tail -n 5 "$D/err"; } | head -n 20 | sed 's/^/# /'
    fi
}

for group in layer:25 cache:150 select:25 attend:30 matmul:200; do
    holds "operations of ${group%:*} are the CPU's" "${group#*:}" "$programs/ops" "${group%:*}"
done
# As many blocks as an H200 gets.
RADAR_FAKE_CUDA=sms=132 holds "attention on many multiprocessors" 30 "$programs/ops" attend
for setting in sketch progressive "fp8 weights"; do
    holds "decode by $setting has the same bits on 1, 2, 4 ranks, with graphs and without" 5 \
        "$programs/local" all "$setting" 130 3 tests/golden/tiny/qwen3-qknorm-bf16
done
echo "1..$n"
