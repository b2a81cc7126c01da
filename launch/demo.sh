#!/bin/bash
# demo.sh MODEL: the main job on 2 ranks. A text of 4.4k tokens hides one sentence; it is prefilled once, then the rest of it and a
# question are decoded with Radar and again with dense attention.
set -u
model=$1
cd "$(dirname "$0")/.." || exit 1
code=36066
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT

echo "A text of 4.4k tokens (King James Bible) with one sentence hidden at 60 %: \"The secret code of Grace is $code.\""
echo "One process group: mpirun -np 2, one thread each. Prefill takes most of the time."
echo
launch/mpirun.sh 2 build/radar compare -m "$model" -t 1 -f launch/demo/text.txt -q "$(cat launch/demo/question.txt)" \
    --tail 256 -n 192 | tee "$out"
status=${PIPESTATUS[0]}
[ "$status" = 0 ] || exit "$status"
echo
if [ "$(grep -c "^answer.*$code" "$out")" = 2 ]; then
    echo "Both found the hidden code $code."
else
    echo "The hidden code $code was not found by both." >&2
    exit 1
fi
