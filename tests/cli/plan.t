#!/bin/bash
# radar plan against what run then uses, what does not fit, and what is warned of.
. tests/cli/cli.sh
printf '[1,2,3,4,5,6,7,8]' >"$D/ids.json"
run=("$RADAR" run -m "$MODEL" --ids "$D/ids.json" -n 2 --ignore-eos --temp 0 -t 1)

holds() { # holds NAME EXPRESSION over v, the object on stdout
    python3 -c "import json, sys; v = json.load(open('$D/out')); sys.exit(not ($2))" 2>>"$D/err"
    local held=$?
    ok $held "$1"
    [ $held = 0 ] || show
}

for ranks in 1 2 3; do
    try launch/mpirun.sh "$ranks" "${run[@]}" -c 5000 --json --quiet
    cp "$D/out" "$D/run.json"
    accepted "plan for $ranks" plan -m "$MODEL" -c 5000 --ranks "$ranks" --bandwidth 40 --json --quiet
    holds "run on $ranks ranks reserves what was planned" \
        "(lambda r: r['ranks'] == v['ranks'] == $ranks and r['kv_bytes'] == v['kv_bytes'] and r['summary_bytes'] == v['summary_bytes'])(json.load(open('$D/run.json')))"
done
holds "a step's time is its bytes over the bandwidth" "abs(v['step_one_machine_s'] * 40e9 - v['step_bytes']) <= 1 and v['step_s'] < v['step_one_machine_s']"

# All of the memory of a process whose cache is full, within a tenth.
python3 - "$RADAR" "$MODEL" "$D" <<'P'
import array, json, os, subprocess, sys
radar, model, d = sys.argv[1:]
ids = array.array("I")
ids.frombytes(open("tests/golden/ids-kjv-4096.u32", "rb").read())
json.dump(ids.tolist()[:3000], open(d + "/3000.json", "w"))
options = ["-m", model, "-c", "3072", "--json", "--quiet", "-t", "1"]
plan = json.loads(subprocess.check_output([radar, "plan", "--bandwidth", "40"] + options))
process = subprocess.Popen([radar, "run", "--ids", d + "/3000.json", "-n", "4", "--ignore-eos"] + options,
                           stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
peak = usage.ru_maxrss * 1024
print("# planned %d bytes, peak %d" % (plan["total_bytes"], peak))
sys.exit(not (status == 0 and 0.9 * plan["total_bytes"] <= peak <= 1.1 * plan["total_bytes"]))
P
ok $? "a process with a full cache takes what was planned, within 10 %"

accepted "plan for machines of 2 GB" plan -m "$MODEL" -c 131072 --memory 2 --bandwidth 40 --json --quiet
holds "what does not fit is said, with what does" \
    "v['fits'] is False and 0 < v['largest_context'] < 131072 and v['total_bytes'] > 2e9 and any('--ctx %d' % v['largest_context'] in a for a in v['advice'])"
holds "ranks and rope scaling are advised" \
    "any('2 ranks on 2 machines' in a for a in v['advice']) and any('--rope-scaling yarn --rope-scale 16' in a for a in v['advice'])"
largest=$(python3 -c "import json; print(json.load(open('$D/out'))['largest_context'])")
accepted "plan for the largest that fits" plan -m "$MODEL" -c "$largest" --memory 2 --bandwidth 40 --json --quiet
holds "the largest that fits fits" "v['fits'] is True and v['total_bytes'] <= 2e9"
accepted "plan for 256 tokens more" plan -m "$MODEL" -c $((largest + 256)) --memory 2 --bandwidth 40 --json --quiet
holds "256 tokens more do not" "v['fits'] is False"
accepted "plan in words" plan -m "$MODEL" -c 131072 --bandwidth 40
grep -q '^largest context' "$D/out" && grep -q '^time of a step' "$D/out"
ok $? "plan in words has the context and the time"
! grep -q 'for each rank\|ranks on one machine' "$D/out"
ok $? "and says nothing of other ranks where there is one"
accepted "plan for memory of nothing" plan -m "$MODEL" --memory 0.001 --bandwidth 40
grep -q '^largest context *0 tokens in 1.0 MB$' "$D/out"
ok $? "memory in a unit that shows it"
refused "plan without a model" 64 'MODEL is missing' plan
refused "plan of a prompt" 64 'unknown option' plan -m "$MODEL" -p x
refused "plan for more ranks than shards" 78 'shards' plan -m "$MODEL" --ranks 9
refused "plan for no ranks" 64 'ranks' plan -m "$MODEL" --ranks 0
refused "plan of a context past all counts" 64 'ctx' plan -m "$MODEL" -c 99999999999

refused "plan of what no session can be" 78 'one shard' plan -m "$MODEL" --attention paper
refused "eval with a context that has no room" 71 'use --ctx [0-9]* or less' eval needle -m "$MODEL" -f launch/demo/text.txt --length 1000000000 \
    -c 1000000000 --quiet
refused "run with a context that has no room" 71 'a context of 4000000000 tokens needs .* bytes.*use --ctx [0-9]* or less' \
    run -m "$MODEL" -p x -c 4000000000 --quiet
try launch/mpirun.sh 3 "${run[@]}" -c 4000000000 --quiet
judge "3 ranks with a context that has no room" 71 'a context of 4000000000 tokens needs'
refused "compare with a context that has no room" 71 'use --ctx' compare -m "$MODEL" --ids "$D/ids.json" --tail 2 -c 4000000000 --quiet

# warned NAME TIMES PATTERN COMMAND...: the command works and says so, so often.
warned() {
    local name=$1 times=$2 pattern=$3
    shift 3
    try "$@"
    if [ "$code" = 0 ] && [ "$(grep -c "warning: .*$pattern" "$D/err")" = "$times" ]; then ok 0 "$name"; else ok 1 "$name"; show; fi
}
past='past the 8192 that the model is made for: add --rope-scaling yarn --rope-scale 2'
warned "a context past the model's is warned of" 1 "$past" "${run[@]}" -c 16384
warned "once on 2 ranks" 1 "$past" launch/mpirun.sh 2 "${run[@]}" -c 16384
warned "by compare" 1 "$past" "$RADAR" compare -m "$MODEL" --ids "$D/ids.json" --tail 2 -n 1 -c 16384 -t 1
warned "by eval" 1 "$past" "$RADAR" eval ppl -m "$MODEL" --ids "$D/ids.json" --from 4 -c 16384 -t 1
warned "not with --quiet" 0 '' "${run[@]}" -c 16384 --quiet
warned "not within it" 0 '' "${run[@]}" -c 8192
warned "not under rope scaling that reaches it" 0 'past' "${run[@]}" -c 16384 --rope-scaling yarn --rope-scale 2
warned "but under one that does not" 1 'made for under rope scaling linear: add' "${run[@]}" -c 16384 --rope-scale 1.5
warned "more threads than cores" 1 'threads on' "${run[@]}" -t 1000
warned "ranks of more threads than cores" 1 "wait for each other" launch/mpirun.sh 2 "${run[@]}" -t "$(nproc)"
refused "rope scaling without a factor" 64 'needs --rope-scale' run -m "$MODEL" -p x --rope-scaling yarn --quiet
refused "rope scaling that shortens" 64 'rope-scale 0.5: must be from 1' run -m "$MODEL" -p x --rope-scaling yarn --rope-scale 0.5 --quiet
refused "a rope scale that is no number" 64 "rope-scale 'nan': must be a number" run -m "$MODEL" -p x --rope-scale nan --quiet
refused "a rope base below one" 64 'rope-freq-base 0.5: must be from 1' run -m "$MODEL" -p x --rope-freq-base 0.5 --quiet
refused "a rope base that is no number" 64 "rope-freq-base 'x': must be a number from 0" run -m "$MODEL" -p x --rope-freq-base x --quiet
refused "an original context past all counts" 64 'yarn-orig-ctx 99999999999: must be from 1' run -m "$MODEL" -p x --rope-scaling yarn --rope-scale 2 \
    --yarn-orig-ctx 99999999999 --quiet
refused "an unknown rope scaling" 64 'none|linear|yarn' run -m "$MODEL" -p x --rope-scaling su --quiet

# The same answer without vector instructions.
try "${run[@]}" -n 8 --quiet
cp "$D/out" "$D/best"
try "${run[@]}" -n 8 --quiet --isa plain
[ "$code" = 0 ] && [ -s "$D/out" ] && cmp -s "$D/out" "$D/best"
ok $? "--isa plain gives the same text"
done_testing
