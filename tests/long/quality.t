#!/bin/bash
# Loss above own dense attention over the last 512 of 8,192 golden tokens, decoded with each policy after a dense prefill.
# Asserts: the default (sketch) at most 0.02 nats a token, and the order exact, sketch < mean < rf < streaming.
set -u
RADAR=${BUILD:-build/cpu}/radar
MODEL=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
n=0
ok() { n=$((n + 1)); if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a + 0 < b + 0) }'; }

declare -A above
loss() { # loss OPTIONS...: mean loss per token of one run, and its figures in $facts
    facts=$("$RADAR" eval ppl -m $MODEL --ids tests/golden/ids-kjv-8192.u32 --from 7680 --json --quiet "$@") || { echo "# radar eval failed: $*" >&2; return 1; }
    field() { sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" <<<"$facts"; }
    awk -v s="$(field nll)" -v t="$(field tokens)" 'BEGIN { printf "%.6f", s / t }'
}
dense=$(loss --attention dense); ok $? "dense: $dense nats a token"
run() { # run NAME OPTIONS...
    local name=$1 mean; shift
    facts=""
    mean=$(loss "$@"); ok $? "$name: runs"
    above[$name]=$(awk -v a="$mean" -v b="$dense" 'BEGIN { printf "%.4f", a - b }')
    echo "# $name: ${above[$name]} nats a token above dense"
}
run sketch
run exact --scorer exact
run mean --scorer mean
run rf --scorer rf
run "rf pair" --scorer rf --rf-form pair
run streaming --attention streaming
below "${above[sketch]}" 0.02; ok $? "default: ${above[sketch]} nats above dense, at most 0.02"
below "${above[exact]}" "${above[mean]}"; ok $? "exact (${above[exact]}) loses less than mean (${above[mean]})"
below "${above[sketch]}" "${above[mean]}"; ok $? "sketch (${above[sketch]}) loses less than mean (${above[mean]})"
below "${above[mean]}" "${above[rf]}"; ok $? "mean (${above[mean]}) loses less than random features (${above[rf]})"
below "${above[rf]}" "${above[streaming]}"; ok $? "random features (${above[rf]}) lose less than sinks and window (${above[streaming]})"
echo "1..$n"
