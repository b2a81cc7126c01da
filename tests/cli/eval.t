#!/bin/bash
# radar eval: lists and what is wrong with them, rows in files, an interrupted sweep that goes on, profiles, ranks, and the kinds.
. tests/cli/cli.sh
awk 'BEGIN { printf "["; for (i = 0; i < 300; i++) printf "%s%d", i ? "," : "", (i * i) % 1000 + 20; print "]" }' >"$D/300.json"
ppl=(eval ppl -m "$MODEL" --ids "$D/300.json" --from 250 --dense-below 0 --quiet -t 1)

# rows NAME FILE EXPRESSION: a Python expression over rows, the objects of a JSONL.
rows() {
    python3 - "$2" "$3" <<'P' 2>"$D/err"
import csv, json, math, sys
text = open(sys.argv[1]).read()
assert text.endswith("\n"), "the file does not end whole"
rows = [json.loads(line, parse_constant=lambda c: sys.exit(f"{c} is no JSON")) for line in text.splitlines()]
table = list(csv.DictReader(open(sys.argv[1][:-5] + "csv")))
assert [t["key"] for t in table] == [r["key"] for r in rows], "the CSV has other rows"
assert len({r["key"] for r in rows}) == len(rows), "a row twice"
def same(a, b, beside=()):
    times = {"prefill_s", "seconds", "ms_per_token", "rows_per_s", "ranks", "threads", "command", *beside}
    return [{k: v for k, v in r.items() if k not in times} for r in a] == [{k: v for k, v in r.items() if k not in times} for r in b]
def load(path):
    return [json.loads(line) for line in open(path)]
sys.exit(0 if eval("(" + sys.argv[2] + ")") else "does not hold: " + sys.argv[2])
P
    local status=$?
    ok $status "$1"
    [ $status = 0 ] || show
}

# ---- what is typed wrong ----
M=/nonexistent
refused "unknown kind names the nearest and the kinds" 64 'did you mean ppl? There are eval ppl' eval pll -m "$M" -p x
refused "no kind" 64 'eval what' eval
refused "an element of a list" 64 "'x'" eval ppl -m "$M" -p x --budget 128,x
refused "an empty element" 64 "''" eval ppl -m "$M" -p x --budget 128,,256
refused "a list of what is none" 64 "'1,2'" eval ppl -m "$M" -p x --chunk 1,2
refused "a list elsewhere" 64 "'1,2'" run -m "$M" -p x --budget 1,2
refused "--from with --tail" 64 'exclude each other' eval ppl -m "$M" -p x --from 1 --tail 2
refused "no text" 64 'no input' eval needle -m "$M"
refused "--nll of a sweep" 64 'no lists' eval ppl -m "$M" -p x --budget 1,2 --nll "$D/nll"
refused "option of another kind" 64 'unknown option' eval ppl -m "$M" -p x --depths 3
for kind in ppl needle ruler generate; do
    accepted "eval $kind -h" eval "$kind" -h
    grep -q -- '--budget auto|N\[,...\]' "$D/out"
    ok $? "eval $kind -h shows what may be a list"
done
accepted "eval -h" eval -h
grep -q 'eval ruler' "$D/out"
ok $? "eval -h lists the kinds"

# ---- bad input ----
refused "text shorter than --from" 65 'nothing to score' "${ppl[@]}" --from 299
refused "text shorter than --tail" 65 'nothing to score' eval ppl -m "$MODEL" --ids "$D/300.json" --tail 300 --quiet
refused "text shorter than --length" 65 '300 tokens, --length asks for 301' "${ppl[@]}" --length 301
refused "--out in a folder that is not there" 73 'no/such' "${ppl[@]}" --out "$D/no/such"
refused "--out below a file" 73 '300.json' "${ppl[@]}" --out "$D/300.json/x"
mkdir "$D/bad" && printf '{"no":"key"}\n{"key":"12"}\n' >"$D/bad/ppl.jsonl"
refused "--out with another file's lines" 65 'line 1 is no row' "${ppl[@]}" --out "$D/bad"
[ "$(wc -l <"$D/bad/ppl.jsonl")" = 2 ] && [ ! -e "$D/bad/ppl.csv" ]
ok $? "nothing of it is lost"

refused "the last of several lengths, before the first is computed" 65 'asks for 301' "${ppl[@]}" --length 260,301 --out "$D/late"
[ ! -s "$D/late/ppl.jsonl" ]
ok $? "nothing of it was computed"

# ---- a sweep ----
sweep=("${ppl[@]}" --attention dense,streaming,radar --window 64 --budget 64,128 --out "$D/sweep")
accepted "a sweep" "${sweep[@]}"
rows "settings that coincide run once" "$D/sweep/ppl.jsonl" \
    '[(r["attention"], r["budget"]) for r in rows] == [("dense", -1), ("streaming", -1), ("radar", 64), ("radar", 128)]'
rows "a row has its figures" "$D/sweep/ppl.jsonl" 'all(r["what"] == "ppl" and r["tokens"] == 49 and r["first"] == 250 and r["last"] == 298
    and r["length"] == 300 and len(r["nll"]) == 49 and abs(sum(r["nll"]) / 49 - r["nll_mean"]) < 1e-5 and abs(math.exp(r["nll_mean"]) - r["ppl"]) < 1e-6 * r["ppl"]
    and [b[:2] for b in r["by_position"]] == [[250, 255], [256, 298]] and 0 < r["nll_se"] < 2 and r["text"] == "300.json" for r in rows)'
rows "tokens and bytes read" "$D/sweep/ppl.jsonl" 'rows[0]["attended_tokens_mean"] == 275 and rows[0]["bytes_per_step"] == 275 * 2 * 64 * 2 * 90
    and rows[1]["attended_tokens_mean"] == 68 and rows[2]["segments_scored"] > 0 and rows[2]["bytes_per_step"] > rows[2]["attended_tokens_mean"] * 2 * 64 * 2 * 90'
cp "$D/sweep/ppl.jsonl" "$D/whole.jsonl"
python3 - "$D" <<'P'
import json, shlex, subprocess, sys
row = json.loads(open(sys.argv[1] + "/whole.jsonl").readlines()[3])
words = shlex.split(row["command"])
import os
words[0] = os.environ.get("RADAR", "build/radar")
out = json.loads(subprocess.run(words + ["--json", "--quiet"], capture_output=True, check=True).stdout)
assert abs(out["nll_mean"] - row["nll_mean"]) < 1e-9, (out["nll_mean"], row["nll_mean"])
P
ok $? "the command of a row gives it again"

# An interrupted write, and rows that are missing: only those are made.
head -n 2 "$D/whole.jsonl" >"$D/sweep/ppl.jsonl"
sed -n 3p "$D/whole.jsonl" | head -c 500 >>"$D/sweep/ppl.jsonl"
try "$RADAR" eval ppl -m "$MODEL" --ids "$D/300.json" --from 250 --dense-below 0 -t 1 --attention dense,streaming,radar --window 64 --budget 64,128 --out "$D/sweep"
[ "$code" = 0 ] && grep -q 'warning: .*cut off' "$D/err" && grep -q '2 rows written.* 2 were there' "$D/err"
ok $? "an interrupted sweep goes on"
rows "the rows are those of one go" "$D/sweep/ppl.jsonl" "same(rows, load('$D/whole.jsonl'))"
accepted "nothing left to do" "${sweep[@]}" --json
holds() { python3 -c "import json, sys; v = json.load(open('$D/out')); sys.exit(0 if ($2) else 1)" 2>"$D/err"; ok $? "$1"; }
holds "--json says where rows are" "v['written'] == 0 and v['there'] == 4 and v['jsonl'].endswith('sweep/ppl.jsonl')"

# How the prompt attended tells caches apart: the dense row is that of a sweep which knew no other, whichever came before.
accepted "a sweep over prefills" "${ppl[@]}" --attention dense,streaming --prefill radar,dense --window 64 --segments 1 --dense-prefill 0 --out "$D/prefills"
rows "a prefill is not taken for another" "$D/prefills/ppl.jsonl" "[(r['attention'], r['prefill']) for r in rows]
    == [('dense', 'radar'), ('dense', 'dense'), ('streaming', 'radar'), ('streaming', 'dense')]
    and [rows[i]['nll'] for i in (1, 3)] == [r['nll'] for r in load('$D/whole.jsonl')[:2]] and rows[0]['nll'] != rows[1]['nll'] and rows[2]['nll'] != rows[3]['nll']
    and rows[0]['prefill_attended_tokens_mean'] < rows[1]['prefill_attended_tokens_mean'] == 125.5"
accepted "a prefill alone" "${ppl[@]}" --attention dense --prefill radar --window 64 --segments 1 --dense-prefill 0 --json
holds "it is the sweep's" "abs(v['nll_mean'] - $(sed -n 's/.*"nll_mean": *\([0-9.]*\).*/\1/p' "$D/prefills/ppl.jsonl" | head -1)) < 1e-9"
refused "the upper bits of a cache that has none" 78 "q8top.*use --kv-type q8" "${ppl[@]}" --scorer q8top
# A q8 cache does not come back whole from far: a row is the same whatever was measured before it.
awk 'BEGIN { printf "["; for (i = 0; i < 1400; i++) { x = (x * 1103 + 12345) % 65536; printf "%s%d", i ? "," : "", int(x / 512) } print "]" }' >"$D/1400.json"
q8=(eval ppl -m tests/golden/tiny/qwen3-qknorm-bf16 --ids "$D/1400.json" --ctx 1400 --from 500 --chunk 64 --stripe 64 --kv-type q8 --dense-below 0
    --window 64 --segments 2 --quiet -t 1)
accepted "a sweep over a q8 cache" "${q8[@]}" --scorer sketch,mean --out "$D/q8"
accepted "its second row alone" "${q8[@]}" --scorer mean --out "$D/q8-alone"
rows "is the sweep's" "$D/q8/ppl.jsonl" "same(rows[1:], load('$D/q8-alone/ppl.jsonl'))"
refused "an attention that learns from the prompt" 78 'h2o.*use --prefill dense' "${ppl[@]}" --attention h2o --prefill radar

# A signal: what is written stays.
"$RADAR" eval ppl -m "$MODEL" --ids "$D/300.json" --from 30 -t 1 --quiet --attention streaming --out "$D/stopped" \
    --window "$(seq -s, 1 400)" >"$D/out" 2>"$D/err" </dev/null &
pid=$!
waited=0
while [ ! -s "$D/stopped/ppl.jsonl" ] && [ $waited -lt 300 ]; do sleep 0.1; waited=$((waited + 1)); done
kill -s INT $pid
wait $pid
code=$?
judge "a signal ends a sweep" 75 'run it again to go on'
rows "and keeps its rows" "$D/stopped/ppl.jsonl" '0 < len(rows) < 400'

# A full disk in the middle of a row, here a limit on the size of files; two runs at once.
full=("${ppl[@]}" --attention streaming --window "$(seq -s, 1 12)" --out "$D/full")
(ulimit -f 8 && exec "$RADAR" "${full[@]}" >"$D/out" 2>"$D/err" </dev/null)
code=$?
judge "a full disk ends a sweep" 74 'ppl.jsonl: write failed'
exec 9>>"$D/full/ppl.jsonl"
flock 9
rm -f "$D/full/ppl.csv"
refused "another run is there" 73 'another run is writing it' "${full[@]}"
[ ! -e "$D/full/ppl.csv" ]
ok $? "and is left alone"
exec 9>&-
accepted "with room it goes on" "${full[@]}" --json
holds "where it was" "0 < v['there'] < 12 and v['there'] + v['written'] == 12"
rows "with whole rows" "$D/full/ppl.jsonl" '[r["window"] for r in rows] == list(range(1, 13))'

# Two ranks give the same rows.
try launch/mpirun.sh 2 "$RADAR" "${sweep[@]}" --out "$D/ranks"
ok "$code" "a sweep on two ranks"
rows "ranks change no figure" "$D/ranks/ppl.jsonl" "same(rows, load('$D/whole.jsonl'), ('summary_bytes',)) and all(r['ranks'] == 2 for r in rows)"
try launch/mpirun.sh 2 "$RADAR" "${sweep[@]}" --json
holds "two ranks leave out what is there" "v['written'] == 0 and v['there'] == 4"
rows "nor what is there already" "$D/sweep/ppl.jsonl" "same(rows, load('$D/whole.jsonl'))"
try launch/mpirun.sh 2 "$RADAR" "${ppl[@]}" --out "$D/300.json/x"
judge "--out that cannot be made, on two ranks" 73 '300.json'

# What an attention looks at tells its settings apart.
accepted "h2o by segments" "${ppl[@]}" --attention h2o --window 32 --segments 2,4 --json
holds "a segment is 16 tokens of budget" "[r['attended_tokens_mean'] for r in v['rows']] == [64, 96] and [r['budget_tokens'] for r in v['rows']] == [32, 64]"
accepted "h2o by head" "${ppl[@]}" --attention h2o --window 32 --budget 32 --share group,head --json
holds "heads with lists of their own read more together" "[r['share'] for r in v['rows']] == ['group', 'head'] and v['rows'][0]['nll_mean'] != v['rows'][1]['nll_mean']"
accepted "Radar as published, and its oracle" "${ppl[@]}" --preset paper --window 64 --segments 2 --scorer sketch,exact,rf --json
holds "are two settings" "[r['scorer'] for r in v['rows']] == ['', 'exact'] and v['rows'][0]['nll_mean'] != v['rows'][1]['nll_mean'] and v['rows'][0]['budget_tokens'] == 2 * 15"
accepted "longer segments" "${ppl[@]}" --window 64 --scorer mean --segment 16,32 --budget 64 --json
holds "bytes of a scored segment, whatever its length" "len({round((r['bytes_per_step'] - r['attended_tokens_mean'] * 2 * 64 * 2 * 90) / (r['segments_scored'] / r['tokens'])) for r in v['rows']}) == 1"
holds "eight segments at least" "[r['budget_tokens'] for r in v['rows']] == [128, 256]"
accepted "the oracle of a scorer" "${ppl[@]}" --window 64 --scorer exact,mean --json
holds "reads keys to score" "all(abs(r['bytes_per_step'] - r['attended_tokens_mean'] * 23040 - r['segments_scored'] / 49 * b) < 1 for r, b in zip(v['rows'][:1], [16 * 64 * 2]))"

# Files beside a row that is there already.
accepted "losses of one setting" "${ppl[@]}" --attention dense --out "$D/losses" --nll "$D/nll"
rm "$D/nll"
accepted "asked for again" "${ppl[@]}" --attention dense --out "$D/losses" --nll "$D/nll" --json
holds "the row is there" "v['written'] == 0 and v['there'] == 1"
[ "$(wc -c <"$D/nll")" = 196 ]
ok $? "the losses are written"
cp "$D/300.json" "$D/$(printf 'caf\351.json')"
accepted "a name that is no UTF-8" eval ppl -m "$MODEL" --ids "$D/$(printf 'caf\351.json')" --attention dense,streaming --from 290 --quiet -t 1 --json
holds "loses no figures" "[r['text'] for r in v['rows']] == 2 * ['caf\ufffd.json']"

# ---- on stdout ----
accepted "rows as JSON" "${ppl[@]}" --attention dense,streaming --window 64 --json
holds "one object with rows" "[r['attention'] for r in v['rows']] == ['dense', 'streaming']"
accepted "rows as a table" "${ppl[@]}" --attention dense,streaming --window 64
[ "$(wc -l <"$D/out")" = 3 ] && head -n 1 "$D/out" | grep -q 'attention.*nll_mean'
ok $? "a line each below a heading"
accepted "--length cuts the text" "${ppl[@]}" --attention dense --from 100 --length 150,200 --json
holds "tokens by length" "[r['tokens'] for r in v['rows']] == [49, 99] and v['rows'][0]['nll'] == v['rows'][1]['nll'][:49]"
accepted "a sweep of dense alone begins at 0" eval ppl -m "$MODEL" --ids "$D/300.json" --attention dense --length 20,30 --json --quiet -t 1
holds "as one setting of it does" "[(r['first'], r['last']) for r in v['rows']] == [(0, 18), (0, 28)]"
accepted "--tail" eval ppl -m "$MODEL" --ids "$D/300.json" --tail 20 --json --quiet -t 1
holds "--tail scores the last" "v['positions'] == [279, 298]"

# ---- profiles ----
fingerprint=$(python3 -c "import json; print(json.loads(open('$D/whole.jsonl').readline())['fingerprint'])")
profile() { printf '{"fingerprint":"%s","options":%s}' "$1" "$2" >"$D/profile.json"; }
profile "$fingerprint" '{"attention":"streaming","window":48,"rf-center":true,"temp":0.5}'
accepted "a profile" "${ppl[@]}" --profile "$D/profile.json" --sinks 8 --out "$D/profiled"
rows "its options hold" "$D/profiled/ppl.jsonl" 'rows[0]["attention"] == "streaming" and rows[0]["attended_tokens_mean"] == 56'
accepted "what is typed wins" "${ppl[@]}" --profile "$D/profile.json" --sinks 8 --window 16 --json
holds "over the profile" "v['attended_tokens_mean'] == 24"
profile "$fingerprint" '{"temp":0,"top-k":0}'
accepted "a profile for run" run -m "$MODEL" --ids "$D/300.json" -n 2 --profile "$D/profile.json" -s 5 --json --quiet
cp "$D/out" "$D/greedy"
accepted "greedy as typed" run -m "$MODEL" --ids "$D/300.json" -n 2 --temp 0 -s 6 --json --quiet
holds "draws the same" "v['tokens'] == json.load(open('$D/greedy'))['tokens']"
profile 1234 '{"window":48}'
refused "a profile of another model" 78 'another\|made for a model with fingerprint' "${ppl[@]}" --profile "$D/profile.json"
profile "$fingerprint" '{"windows":48}'
refused "an unknown option in a profile" 65 "'windows' is not known" "${ppl[@]}" --profile "$D/profile.json"
profile "$fingerprint" '{"window":"48"}'
refused "an ill-typed option in a profile" 65 "'window' has a value of another type" "${ppl[@]}" --profile "$D/profile.json"
profile "$fingerprint" '{"window":0}'
refused "a value out of range in a profile" 65 'profile.json: --window' "${ppl[@]}" --profile "$D/profile.json"
profile "$fingerprint" '{"shards":3}'
refused "what does not go together in a profile" 64 '--shards 3' "${ppl[@]}" --profile "$D/profile.json"
profile "$fingerprint" '{"a\nb":3}'
refused "a name of two lines in a profile" 65 "'a?b' is not known" "${ppl[@]}" --profile "$D/profile.json"
profile "$fingerprint" '{"out":"x"}'
refused "a place in a profile" 65 "'out' is not known" "${ppl[@]}" --profile "$D/profile.json"
printf '{' >"$D/profile.json"
refused "a profile that is no JSON" 65 'profile.json' "${ppl[@]}" --profile "$D/profile.json"
refused "a missing profile" 66 'nowhere.json' "${ppl[@]}" --profile "$D/nowhere.json"

# ---- kinds ----
head -c 6000 launch/demo/text.txt | iconv -c -f UTF-8 -t UTF-8 >"$D/text.txt"
made=(-m "$MODEL" -f "$D/text.txt" --length 480 --attention dense,streaming --window 64 --out "$D/kinds" -t 1 --quiet)
accepted "needle" eval needle "${made[@]}" --depths 2 --questions 3
rows "needle: a row a setting, a cell a question" "$D/kinds/needle.jsonl" 'len(rows) == 2 and all(r["questions"] == 3 and [g[0] for g in r["grid"]] == [.25, .75, .5]
    and abs(sum(g[1] for g in r["grid"]) / 3 - r["nll_per_digit"]) < 1e-9 and abs(sum(g[2] for g in r["grid"]) / 3 - r["exact"]) < 1e-9
    and r["nll_se"] > 0 and 0 < r["attended_tokens_mean"] <= 480 for r in rows)'
rows "needle: dense finds facts that a window does not" "$D/kinds/needle.jsonl" 'rows[0]["nll_per_digit"] < 0.6 and rows[0]["exact"] > .5
    and rows[1]["nll_per_digit"] > 1.5 and rows[1]["exact"] == 0'
accepted "ruler" eval ruler "${made[@]}" --length 640 --questions 1
rows "ruler: seven tasks a setting" "$D/kinds/ruler.jsonl" '[r["task"] for r in rows] == 2 * ["niah_single", "niah_multikey", "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe"]
    and [r["references"] for r in rows[:7]] == [1, 1, 4, 4, 5, 10, 3] and all(0 <= r["exact"] <= 1 and 0 <= r["tokens_exact"] <= 1 and 0 < r["nll_per_token"] < 12
    and r["samples"] == 1 and 0 < r["attended_tokens_mean"] <= 640 for r in rows)'
rows "ruler: dense finds the number, a window does not" "$D/kinds/ruler.jsonl" 'rows[0]["nll_per_token"] < 1 < rows[7]["nll_per_token"]'
accepted "generate" eval generate -m "$MODEL" -n 48 --temp 0 --attention dense,streaming --window 16 --out "$D/kinds" -t 1 --quiet
rows "generate: figures of what was made" "$D/kinds/generate.jsonl" 'len(rows) == 2 and all(len(r["ids"]) == r["tokens"] == 48 and
    abs(r["distinct_1"] - len(set(r["ids"])) / 48) < 1e-9 and abs(r["repetition"] - (1 - len({tuple(r["ids"][i:i + 4]) for i in range(45)}) / 45)) < 1e-9
    and 0 <= r["longest_repeat"] < 48 and r["nll_dense"] > 0 for r in rows)'
accepted "generate until the context is full" eval generate -m "$TINY" -n -1 --ctx 40 --attention dense --json --quiet
holds "39 tokens behind the first" "v['rows'][0]['tokens'] == 39"
refused "needle in a text that no context holds" 78 'room for 8192' eval needle -m "$MODEL" -f "$D/text.txt" --length 480,4000000000 --quiet
refused "ruler likewise" 78 'room for 600' eval ruler -m "$MODEL" -f "$D/text.txt" --length 601 --ctx 600 --quiet
advise=(eval advise -m "$MODEL" -f "$D/text.txt" --length 480 --tail 16 --dense-below 100000 --window 32 -t 1 --quiet)
accepted "advise where all settings read everything" "${advise[@]}" --json -o "$D/advice.json"
holds "the cheapest kind at its least budget, and what was typed beside it" "[(a['options'], a['missed'], a['above_dense']) for a in v['advice']] ==
    [({'attention': 'radar', 'scorer': 'mean', 'budget': 128, 'segment': 32, 'dense-below': 100000, 'window': 32}, 0, 0)]
    and v['advice'][0]['facts'] > 0 and v['advice'][0]['paste'] == '--attention radar --scorer mean --budget 128 --segment 32 --dense-below 100000 --window 32'
    and all(r['within'] and r['above_dense'] == 0 for r in v['rows'])"
accepted "its profile" "${ppl[@]:0:8}" -t 1 --quiet --profile "$D/advice.json" --out "$D/advised"
rows "holds elsewhere" "$D/advised/ppl.jsonl" 'rows[0]["scorer"] == "mean" and rows[0]["segment"] == 32 and rows[0]["window"] == 32 and rows[0]["attended_tokens_mean"] == 275'
try launch/mpirun.sh 2 "$RADAR" "${advise[@]}" --out "$D/advised2"
[ "$code" = 0 ] && grep -q -x -- '--attention radar --scorer mean --budget 128 --segment 32 --dense-below 100000 --window 32' "$D/out"
ok $? "advise on two ranks is the same, on a line to paste"
try launch/mpirun.sh 2 "$RADAR" eval needle "${made[@]}" --depths 2 --questions 3 --out "$D/kinds2"
rows "needle on two ranks is the same" "$D/kinds2/needle.jsonl" "same(rows, load('$D/kinds/needle.jsonl'))"
done_testing
