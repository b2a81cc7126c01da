#!/bin/bash
# radar bench: rows in four formats with the documented keys, a cache that is made up, several ranks, what is refused, Ctrl-C.
. tests/cli/cli.sh
M=/nonexistent # would be exit 66, if anything looked

refused "nothing to measure" 64 'nothing to measure' bench -m "$M" -p 0 -n 0
refused "a length that is no number" 64 '-p .12,x' bench -m "$M" -p 12,x
refused "a depth that is no number" 64 '-d ' bench -m "$M" -d -5
refused "a format nobody knows" 64 'md|csv|json|jsonl' bench -m "$M" -o html
refused "extrapolation without points" 64 'three lengths in -p' bench -m "$M" -p 512 -d 0 --extrapolate 4096
refused "a folder without losses" 66 'ppl.jsonl' bench -m "$M" --loss "$D"
refused "a model that is not there" 66 'nonexistent' bench -m "$M" -p 16

# check NAME CODE: a Python program over rows, what $D/out holds as a JSON array.
check() {
    python3 - "$D/out" <<P 2>"$D/err"
import json, sys
rows = json.load(open(sys.argv[1]), parse_constant=lambda c: sys.exit(f"{c} is no JSON"))
$2
P
    local status=$?
    ok $status "$1"
    [ $status = 0 ] || show
}

small=(-m "$MODEL" -t 1 -r 2 --quiet)
accepted "depths 0 and 192 of text, two settings" bench "${small[@]}" -p 8,16,32 -n 4 -d 0,192 --attention radar,dense --fill-from launch/demo/text.txt \
    --extrapolate 4096 -o json
check "rows: every test of every setting at every depth, and the extrapolated ones" '
names = [(r["test"], r["attention"], r["extrapolated"]) for r in rows]
want = []
for at in ("", " @ d192"):
    for attention in ("radar", "dense"):
        want += [(t + at, attention, False) for t in ("pp8", "pp16", "pp32", "tg4")]
assert names[:16] == want, names
assert {n[0] for n in names[16:]} <= {"pp4096", "tg4 @ d4096"} and len(names) > 16, names[16:]
assert all(n[2] for n in names[16:])'
check "rows: figures agree with each other" '
for r in rows:
    n = r["n_prompt"] + r["n_gen"]
    assert abs(r["tokens_per_s"] * r["seconds"] - n) < 1e-6 * n
    assert abs(r["ms_per_token"] * n - 1e3 * r["seconds"]) < 1e-6 * r["ms_per_token"] * n
    assert r["model_type"] == "llama Q4_1" and r["model_parameters"] == 134515008 and r["threads"] == 1 and r["ranks"] == 1
    assert r["loss"] is None and r["loss_from"] == "not measured" and r["read_bandwidth"] > 1e8
    if r["extrapolated"]:
        assert r["extrapolated_from"] and r["samples_s"] == [] and r["coverage_mean"] is None
        continue
    assert len(r["samples_s"]) == r["repetitions"] == 2 and r["extrapolated_from"] == ""
    assert r["tokens_per_s_min"] <= r["tokens_per_s"] * (1 + 1e-9) and r["tokens_per_s"] <= r["tokens_per_s_max"] * (1 + 1e-9)
    assert r["fill"] == ("text" if r["n_depth"] else "none")
    if r["n_gen"]:
        assert abs(r["attended_tokens_mean"] - (r["n_depth"] + 2.5)) < 1e-9, r["attended_tokens_mean"]
assert len({tuple(r) for r in rows}) == 1  # the same keys in every row'

awk 'BEGIN { printf "["; for (i = 0; i < 500; i++) printf "%s%d", i ? "," : "", i * i * 37 % 128; print "]" }' >"$D/ids.json"
tiny=(-m "$TINY" -t 1 -r 2 --quiet)
accepted "a cache that is made up" bench "${tiny[@]}" -p 0 -n 4 -d 2048 --fill synth --fill-from "$D/ids.json" --dense-below 0 --scorer sketch,mean -o json
check "made up: segments are scored and chosen" '
assert [(r["test"], r["scorer"], r["fill"]) for r in rows] == [("tg4 @ d2048", s, "synth") for s in ("sketch", "mean")]
for r in rows:
    assert r["segments_scored_per_token"] > 2 * 2 * 80 and 0.2 < r["coverage_mean"] <= 1.0001, r["coverage_mean"]
    assert 500 < r["attended_tokens_mean"] < 2048'
accepted "csv" bench "${small[@]}" -p 8 -n 0 -o csv
python3 -c "
import csv, sys
rows = list(csv.DictReader(open('$D/out')))
assert len(rows) == 1 and rows[0]['test'] == 'pp8' and rows[0]['extrapolated'] == 'false' and float(rows[0]['tokens_per_s']) > 0
assert None not in rows[0] and None not in rows[0].values()"
ok $? "csv: a header and a row of as many fields"
# Before weights are read: no row of an earlier setting or depth is measured for nothing.
refused "a context without room" 71 'a context of 1000000128 tokens needs .* use --ctx [0-9]* or less.*deepest -d' \
    bench "${small[@]}" -p 8 -d 0,1000000000 --fill synth
refused "a setting that cannot be, behind one that can" 78 'one shard' bench "${small[@]}" -p 8 -n 0 --attention radar,paper
[ ! -s "$D/out" ]
ok $? "no row before it"
refused "a prompt that cannot be made up, behind depths without it" 78 'a depth of 4000 tokens cannot be made up' bench "${small[@]}" -p 8 -d 0,4000 \
    --attention dense,h2o
refused "a depth past all counts" 64 'from 1 to 2^34 tokens; --ctx of bench is' bench "${small[@]}" -p 8 -d 17179869184 --fill synth
refused "a fill nobody knows" 66 'fill is auto, synth or a text' bench -m "$MODEL" -p 8 -d 16 --fill snth
refused "a text too short for the second depth" 65 'a depth of 4096 needs as many' bench "${tiny[@]}" -p 0 -n 2 -d 16,4096 --fill "$D/ids.json"
[ ! -s "$D/out" ]
ok $? "no row of the first"
accepted "md" bench "${small[@]}" -p 8 -n 2
[ "$(wc -l <"$D/out")" = 4 ] && [ "$(awk -F'|' '{ print NF }' "$D/out" | sort -u | wc -l)" = 1 ]
ok $? "md: a table of two rows"
head -n 1 "$D/out" | tr -s ' ' | grep -q '^| model | size | params | backend | threads | test | t/s | ms/token | MB/token | % of read | % weights | % attend |$'
ok $? "md: columns for a person, none that is empty"
accepted "one repetition" bench "${tiny[@]}" -r 1 -p 8 -n 0 -o json
check "one repetition has no spread" 'assert [(r["repetitions"], r["tokens_per_s_sd"]) for r in rows] == [(1, None)]'
accepted "md of a sweep" bench "${tiny[@]}" -p 0 -n 2 -d 400 --fill synth --fill-from "$D/ids.json" --dense-below 0 --segments 8,9
head -n 1 "$D/out" | tr -s ' ' | grep -q '| threads | segments | dense_below | test | t/s | .* | % scan | % attend |$' &&
    grep -q '| 9 *| 0 *| *tg2 @ d400 | *[0-9.]* ± [0-9.]* |' "$D/out"
ok $? "md of a sweep: what was set, and the scan"
try launch/mpirun.sh 2 "$RADAR" bench "${tiny[@]}" -p 8 -n 2 -d 0,400 --fill synth --fill-from "$D/ids.json" -o jsonl
[ "$code" = 0 ] && python3 -c "
import json
rows = [json.loads(line) for line in open('$D/out')]
assert [r['test'] for r in rows] == ['pp8', 'tg2', 'pp8 @ d400', 'tg2 @ d400']
assert all(r['ranks'] == 2 and (not r['phases'] or 0 < r['exchange_share'] < 1) for r in rows)"
ok $? "2 ranks"
# Losses of radar eval stand beside the speed of the same setting, at depths that they reach.
try "$RADAR" eval ppl -m "$TINY" --ids "$D/ids.json" --length 300,500 --from 250 --dense-below 0 --window 64 --segments 8 --attention radar,dense -t 1 \
    --out "$D/rows" --quiet
accepted "losses beside speed" bench "${tiny[@]}" -p 0 -n 2 -d 200,400,600 --fill synth --fill-from "$D/ids.json" --loss "$D/rows" --dense-below 0 --window 64 \
    --segments 8,9 -o json
check "losses: of the same setting, at the shortest length that reaches the depth" "
nll = {(r['attention'], r['length']): r['nll_mean'] for r in map(json.loads, open('$D/rows/ppl.jsonl'))}
want = {200: 300, 400: 500}
for r in rows:
    length = want.get(r['n_depth']) if r['segments'] == 8 else None
    if length is None:
        assert r['loss'] is None and r['loss_from'] == 'not measured'
    else:
        assert abs(r['loss'] - nll['radar', length] + nll['dense', length]) < 1e-9 and r['loss'] != 0
        assert r['loss_from'] == f'1 text of {length} tokens'
assert len(rows) == 6"
refused "a text shorter than the depth" 65 'a depth of 4096 needs as many' bench "${tiny[@]}" -p 0 -n 2 -d 4096 --fill "$D/ids.json"
refused "an attention that has to see the prompt" 78 "has to see the prompt" bench "${tiny[@]}" -p 0 -n 2 -d 200 --attention h2o --fill synth --fill-from "$D/ids.json"
refused "a text too short for its covariance" 65 'a covariance of 64' bench "${small[@]}" -p 0 -n 2 -d 4096 --fill-from launch/demo/question.txt

# Ctrl-C: the rows that are done are whole.
rm -f "$D/out"
"$RADAR" bench -m "$MODEL" -t 1 -r 1000 -p 4 -n 8 --quiet -o json >"$D/out" 2>"$D/err" </dev/null &
pid=$!
for _ in $(seq 400); do
    [ -s "$D/out" ] && break
    sleep 0.1
done
kill -INT $pid
wait $pid
code=$?
[ "$code" = 75 ] && grep -q 'stopped by signal' "$D/err"
ok $? "Ctrl-C: exit 75"
check "Ctrl-C: the rows before it" 'assert [r["test"] for r in rows] == ["pp4"]'
done_testing
