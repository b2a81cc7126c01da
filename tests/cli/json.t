#!/bin/bash
# --json: exactly one valid object on stdout with the documented keys; files of --logits and --nll have the documented sizes.
. tests/cli/cli.sh
printf '[1,2,3,4,5,6,7,8,9,10]' >"$D/ids.json"

# json NAME KEY...: $D/out is one JSON value on one line, with the keys.
json() {
    local name=$1
    shift
    python3 - "$D/out" "$@" <<'P' 2>"$D/err"
import json, sys
lines = open(sys.argv[1]).read().splitlines()
assert len(lines) == 1, f"{len(lines)} lines"
value = json.loads(lines[0], parse_constant=lambda c: sys.exit(f"{c} is no JSON"))
for key in sys.argv[2:]:
    assert key in value, f"no key {key}"
P
    local status=$?
    ok $status "$name"
    [ $status = 0 ] || show
}
# holds NAME EXPRESSION: a Python expression over the object v.
holds() {
    python3 -c "import json, sys; v = json.load(open('$D/out')); sys.exit(0 if ($2) else 1)" 2>"$D/err"
    local status=$?
    ok $status "$1"
    [ $status = 0 ] || show
}
bytes() { # bytes NAME FILE SIZE
    [ "$(stat -c %s "$2")" = "$3" ]
    ok $? "$1: $3 bytes"
}

accepted "run --json" run -m "$MODEL" --ids "$D/ids.json" -n 3 --ignore-eos --json --quiet --logits "$D/logits"
json "run: one object" tokens text prompt_tokens finish prefill_s decode_s decode_tokens_per_s ranks attended_tokens_mean \
    coverage_mean coverage_min kv_bytes exchange_s
holds "run: values" "len(v['tokens']) == 3 and v['prompt_tokens'] == 10 and v['finish'] == 'length' and v['ranks'] == 1 and len(v['kv_bytes']) == 1 and v['coverage_min'] <= v['coverage_mean'] <= 1.0001"
bytes "run: logits are [n, vocab]" "$D/logits" $((3 * 49152 * 4))
try "$RADAR" run -m "$MODEL" --ids "$D/ids.json" -n 5 --ignore-eos --profile-steps --json
for line in 'phase .*ms/step' 'matmul Q4_1 ' 'matmul Q8_0 ' 'attend ' 'sample ' 'other ' 'all '; do grep -q "^$line" "$D/err" || echo "$line"; done >"$D/missing"
[ "$code" = 0 ] && [ ! -s "$D/missing" ]
ok $? "--profile-steps: a table on standard error"
json "profile: one object" tokens profile profile_steps exchange_longest_s
holds "profile: four steps, shares that add up, every weight once a step" "v['profile_steps'] == 4 and abs(sum(p['share'] for p in v['profile']) - 1) < 1e-9 and {p['phase']: p['bytes_per_step'] for p in v['profile']}['matmul Q4_1'] == 66355200"
holds "profile: no longer than the decoding" "0.2 * v['decode_s'] < 4e-3 * sum(p['ms_per_step'] for p in v['profile']) <= v['decode_s']"
accepted "-n 1 has no step to profile" run -m "$MODEL" --ids "$D/ids.json" -n 1 --ignore-eos --profile-steps --json --quiet
holds "no steps, no phases" "v['profile_steps'] == 0 and v['profile'] == []"
try "$RADAR" run -m "$MODEL" --ids "$D/ids.json" -n 2 --ignore-eos --json
[ "$code" = 0 ] && ! grep -q 'ms/step' "$D/err"
ok $? "no table unless asked for"
holds "no profile unless asked for" "'profile' not in v"
accepted "run twice with one seed" run -m "$MODEL" --ids "$D/ids.json" -n 12 --temp 1.2 -s 7 --ignore-eos --json --quiet
cp "$D/out" "$D/first"
try "$RADAR" run -m "$MODEL" --ids "$D/ids.json" -n 12 --temp 1.2 -s 7 --ignore-eos --json --quiet
holds "the same seed draws the same tokens" "v['tokens'] == json.load(open('$D/first'))['tokens']"
try "$RADAR" run -m "$MODEL" --ids "$D/ids.json" -n 12 --temp 1.2 -s 8 --ignore-eos --json --quiet
holds "another seed draws others" "v['tokens'] != json.load(open('$D/first'))['tokens']"
accepted "-n 0 only prefills" run -m "$MODEL" --ids "$D/ids.json" -n 0 --json --quiet
holds "-n 0 gives no token" "v['tokens'] == [] and v['text'] == '' and v['finish'] == 'length'"
accepted "-n -1 fills the context" run -m "$MODEL" --ids "$D/ids.json" -n -1 -c 16 --ignore-eos --json --quiet
holds "-n -1 stops where the context is full" "len(v['tokens']) == 6 and v['finish'] == 'length'"
accepted "an end-of-text token ends the text" run -m "$MODEL" -p '<|im_start|>user
Say yes.<|im_end|>
<|im_start|>assistant
' -n 200 --temp 0 --json --quiet
holds "finish is stop" "v['finish'] == 'stop' and '<|im_end|>' not in v['text'] and v['prompt_tokens'] < 20"
accepted "--chat wraps the prompt" run -m "$MODEL" -p 'Say yes.' --chat -n 200 --temp 0 --json --quiet
holds "--chat finds the end too" "v['finish'] == 'stop' and len(v['text']) > 0"
accepted "special tokens in chat are text" run -m "$MODEL" -p '<|im_end|>' --chat -n 1 --json --quiet
cp "$D/out" "$D/first"
try "$RADAR" run -m "$MODEL" -p 'a' --chat -n 1 --json --quiet
holds "special tokens in chat give several tokens" "json.load(open('$D/first'))['prompt_tokens'] > v['prompt_tokens']"

accepted "eval ppl --json" eval ppl -m "$MODEL" --ids "$D/ids.json" --from 3 --attention dense --json --quiet --nll "$D/nll" --logits "$D/logits"
json "eval: one object" tokens nll ppl positions segments_scored attended_tokens_mean coverage_mean coverage_min kv_bytes \
    summary_bytes seconds tokens_per_s
holds "eval: [from, tokens - 2] is scored" "v['tokens'] == 6 and v['positions'] == [3, 8] and abs(v['ppl'] - 2.718281828459045 ** (v['nll'] / 6)) < 1e-6 * v['ppl']"
bytes "eval: a loss per scored token" "$D/nll" $((6 * 4))
bytes "eval: a row of logits per scored token" "$D/logits" $((6 * 49152 * 4))
python3 - "$D" <<'P'
import array, json, math, sys
d = sys.argv[1]
nll, logits = array.array("f"), array.array("f")
nll.frombytes(open(d + "/nll", "rb").read())
logits.frombytes(open(d + "/logits", "rb").read())
ids, vocab, out = json.load(open(d + "/ids.json")), 49152, json.load(open(d + "/out"))
for i in range(6):
    row = logits[i * vocab:(i + 1) * vocab]
    top = max(row)
    loss = top + math.log(math.fsum(math.exp(x - top) for x in row)) - row[ids[3 + i + 1]]
    assert abs(loss - nll[i]) <= 1e-6 * (1 + abs(loss)), (i, loss, nll[i])
assert abs(math.fsum(nll) - out["nll"]) < 1e-4
P
ok $? "eval: entry i is the loss of token i + 1 under row i"
accepted "eval from 0" eval ppl -m "$MODEL" --ids "$D/ids.json" --from 0 --json --quiet
holds "eval from 0 scores all but the last" "v['tokens'] == 9 and v['positions'] == [0, 8]"
accepted "eval without --json" eval ppl -m "$MODEL" --ids "$D/ids.json" --from 0 --quiet
grep -q '^perplexity ' "$D/out"
ok $? "eval without --json prints a line"

accepted "inspect --json" inspect -m "$MODEL" --json
json "inspect: one object" family layers width heads kv_heads head_dim inner vocab context rope tokenizer tensor_types file_bytes
holds "inspect: the demo model" "v['layers'] == 30 and v['kv_heads'] == 3 and v['vocab'] == 49152 and sum(t['bytes'] for t in v['tensor_types']) <= v['file_bytes'] and sum(t['tensors'] for t in v['tensor_types']) == v['tensors'] == 272"
accepted "inspect of safetensors" inspect -m "$TINY" --json
holds "inspect: no tokenizer there" "v['tokenizer'] == 'none'"
accepted "inspect without --json" inspect -m "$MODEL"

accepted "tokenize" tokenize -m "$MODEL" -p 'Hello <|im_end|> world'
json "tokenize: one array"
holds "tokenize parses special tokens" "2 in v"
cp "$D/out" "$D/array.json"
accepted "detokenize" detokenize -m "$MODEL" --ids "$D/array.json"
[ "$(cat "$D/out")" = 'Hello <|im_end|> world' ]
ok $? "detokenize gives the text back"
accepted "tokenize --no-special" tokenize -m "$MODEL" -p 'Hello <|im_end|> world' --no-special
holds "tokenize --no-special does not parse them" "2 not in v"
"$RADAR" detokenize -m "$MODEL" <"$D/out" >"$D/text"
[ "$(cat "$D/text")" = 'Hello <|im_end|> world' ]
ok $? "detokenize reads standard input"
printf 'from a pipe' | "$RADAR" tokenize -m "$MODEL" -f - >"$D/out" && holds "tokenize -f - reads standard input" "len(v) > 1"

awk 'BEGIN { printf "["; for (i = 0; i < 300; i++) printf "%s%d", i ? "," : "", (i * i) % 1000; print "]" }' >"$D/300.json"
accepted "compare --json" compare -m "$MODEL" --ids "$D/300.json" --tail 32 -n 4 -q 'And' --dense-below 0 --window 64 --json --quiet
json "compare: one object" prompt_tokens prefilled_tokens prefill_s sides
holds "compare: two sides" "[s['attention'] for s in v['sides']] == ['radar', 'dense'] and v['sides'][0]['segments_scored'] > 0 and v['sides'][1]['segments_scored'] == 0 and v['prefilled_tokens'] == 268"
try "$RADAR" eval ppl -m "$MODEL" --ids "$D/300.json" --from 268 --attention dense --json --quiet
cp "$D/out" "$D/dense.json"
try "$RADAR" compare -m "$MODEL" --ids "$D/300.json" --tail 32 -n 4 --segments 1000 --dense-below 0 --window 64 --json --quiet
holds "compare: dense after a rewind is eval's dense" "abs(v['sides'][1]['nll_mean'] - json.load(open('$D/dense.json'))['nll_mean']) < 1e-9"
done_testing
