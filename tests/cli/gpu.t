#!/bin/bash
# gpu.sh where there is no GPU, and rehearsed on the fake of one: what it skips, what it finds, how it ends.
. tests/cli/cli.sh

lines() { # lines NAME EXPRESSION over r, the objects of results.jsonl
    python3 -c "import json, sys; r = [json.loads(l) for l in open('$D/gpu/results.jsonl')]; sys.exit(not ($2))" 2>>"$D/err"
    local held=$?
    ok $held "$1"
    [ $held = 0 ] || show
}
ends() { # ends NAME CODE COMMAND...
    local name=$1 want=$2
    shift 2
    try "$@"
    [ "$code" = "$want" ]
    local held=$?
    ok $held "$name ($want)"
    [ $held = 0 ] || show
}

NVIDIA_SMI=$D/none ends "no GPU" 0 tests/gpu.sh --out "$D/gpu"
lines "every phase of a GPU says why it is skipped" \
    "sorted(x['phase'] for x in r if x['verdict'] == 'skipped' and 'no GPU' in x['value']) == sorted('facts correct sanitize ranks ceilings kernels decode torch'.split())"
ends "an unknown phase" 64 tests/gpu.sh --only facts,nothing --out "$D/gpu"
ends "a rehearsal" 0 tests/gpu.sh --rehearse --only facts,correct,ceilings --out "$D/gpu"
lines "figures have a value, a unit and a commit" \
    "any(x['phase'] == 'ceilings' and x['value'] > 0 and x['unit'] == 'GB/s' and x['commit'] for x in r)"
lines "decode on the fake is the CPU's" "any(x['name'] == 'qwen3-qknorm-bf16, sketch: CUDA beside CPU' and x['ok'] is True for x in r)"
grep -q '^correct  *[1-9][0-9]*  *0 ' "$D/out"
ok $? "the table has them"
RADAR_FAKE_CUDA=no-driver ends "a GPU without a driver" 0 tests/gpu.sh --rehearse --only ceilings --out "$D/gpu"
lines "is skipped" "len(r) == 1 and r[0]['verdict'] == 'skipped' and 'driver' in r[0]['value']"
RADAR_FAKE_CUDA=lost=3 ends "a device that is lost" 1 tests/gpu.sh --rehearse --only ceilings --out "$D/gpu"
lines "is a failure" "any(x['ok'] is False for x in r)"
done_testing
