#!/bin/bash
# Bad models, prompts and outputs: exit codes of sysexits.h, one line, before anything slow.
. tests/cli/cli.sh
run=(run -m "$MODEL" -n 2 --quiet)

# ---- models ----
refused "missing model" 66 'nowhere.gguf' run -m "$D/nowhere.gguf" -p x --quiet
: >"$D/empty.gguf"
refused "empty model" 65 'empty.gguf' run -m "$D/empty.gguf" -p x --quiet
head -c 1000000 "$MODEL" >"$D/short.gguf"
refused "truncated model" 65 'short.gguf' run -m "$D/short.gguf" -p x --quiet
head -c 3 "$MODEL" >"$D/tiny.gguf"
refused "model of 3 bytes" 65 'tiny.gguf' run -m "$D/tiny.gguf" -p x --quiet
head -c 5000 /dev/urandom >"$D/noise.gguf"
refused "foreign model" 65 'noise.gguf' run -m "$D/noise.gguf" -p x --quiet
{ head -c 8 "$MODEL"; printf '\377\377\377\377\377\377\377\177'; tail -c +17 "$MODEL" | head -c 100000; } >"$D/lying.gguf"
refused "model that lies about its tensor count" 65 'lying.gguf' run -m "$D/lying.gguf" -p x --quiet
mkdir "$D/folder"
try "$RADAR" run -m "$D/folder" -p x --quiet
case $code in 65 | 66) judge "directory without a model" "$code" folder ;; *) ok 1 "directory without a model"; show ;; esac
mkfifo "$D/fifo.gguf"
try "$RADAR" run -m "$D/fifo.gguf" -p x --quiet
case $code in 65 | 66) judge "model that is a pipe does not hang" "$code" fifo ;; *) ok 1 "model that is a pipe does not hang"; show ;; esac
try "$RADAR" run -m no-such-org/no-such-model -p x --quiet
judge "repo id that is not in the cache" 66 'no-such-model'
refused "inspect of a missing model" 66 'nowhere' inspect -m "$D/nowhere.gguf"
refused "tokenize with a missing model" 66 'nowhere' tokenize -m "$D/nowhere.gguf" -p x

# ---- prompts ----
refused "missing prompt file" 66 'nowhere.txt' "${run[@]}" -f "$D/nowhere.txt"
refused "prompt file that is a directory" 66 'folder' "${run[@]}" -f "$D/folder"
: >"$D/empty.txt"
refused "empty prompt file" 65 'empty.txt: empty' "${run[@]}" -f "$D/empty.txt"
printf 'good \377\376 bad' >"$D/latin.txt"
refused "invalid UTF-8" 65 'UTF-8' "${run[@]}" -f "$D/latin.txt"
printf 'cut off \342\202' >"$D/cut.txt"
refused "UTF-8 cut off at the end" 65 'UTF-8' "${run[@]}" -f "$D/cut.txt"
refused "invalid UTF-8 in -p" 65 'UTF-8' "${run[@]}" -p "$(printf 'a\300\200b')"
refused "invalid UTF-8 for tokenize" 65 'UTF-8' tokenize -m "$MODEL" -f "$D/latin.txt"
refused "model without tokenizer needs ids" 66 'tokenizer' run -m "$TINY" -p x --quiet
while IFS='|' read -r name text pattern; do
    printf '%s' "$text" >"$D/ids.json"
    refused "ids: $name" 65 "$pattern" "${run[@]}" --ids "$D/ids.json"
done <<'T'
no JSON|1 2 3|JSON array
object|{"tokens":[1]}|JSON array
empty array|[]|no token ids
text inside|[1,"2"]|entry 1
real number|[1,2.5]|entry 1
negative|[-1]|entry 0
too large|[1,2,49152]|entry 2
beyond 32 bits|[4294967296]|entry 0
unclosed|[1,2|line 1
T
printf 'abc' >"$D/ids.u32"
refused "u32 ids of 3 bytes" 65 'whole number' "${run[@]}" --ids "$D/ids.u32"
printf '\377\377\377\377' >"$D/ids.u32"
refused "u32 id beyond 31 bits" 65 'entry 0' "${run[@]}" --ids "$D/ids.u32"
refused "detokenize out of range" 65 'entry' detokenize -m "$MODEL" --ids "$D/ids.u32"

# ---- context ----
printf '[1,2,3,4,5,6,7,8]' >"$D/eight.json"
refused "prompt longer than --ctx" 78 '8 tokens, --ctx is 4' "${run[@]}" --ids "$D/eight.json" -c 4
refused "no room for an answer" 78 'no room for an answer' "${run[@]}" --ids "$D/eight.json" -c 8
awk 'BEGIN { printf "["; for (i = 0; i < 9000; i++) printf "%s%d", i ? "," : "", i % 1000; print "]" }' >"$D/long.json"
refused "prompt longer than the model's context" 78 '8192' "${run[@]}" --ids "$D/long.json"
refused "eval of a text longer than the model's context" 78 '8192' eval ppl -m "$MODEL" --ids "$D/long.json" --quiet
refused "context beyond all memory" 71 'ctx' "${run[@]}" --ids "$D/eight.json" -c 10000000000
refused "nothing to score" 65 'nothing to score' eval ppl -m "$MODEL" --ids "$D/eight.json" --quiet
refused "nothing behind --from" 65 'nothing to score' eval ppl -m "$MODEL" --ids "$D/eight.json" --from 7 --quiet
refused "tail longer than the text" 65 'tail' compare -m "$MODEL" --ids "$D/eight.json" --quiet

# ---- outputs ----
e=(--ids "$D/eight.json")
refused "logits where nothing can be made" 73 'no/such' "${run[@]}" "${e[@]}" --logits "$D/no/such/file"
refused "logits onto a full disk" 74 '/dev/full' "${run[@]}" "${e[@]}" --logits /dev/full
refused "losses where nothing can be made" 73 'no/such' eval ppl -m "$MODEL" "${e[@]}" --from 0 --quiet --nll "$D/no/such/file"
refused "losses onto a full disk" 74 '/dev/full' eval ppl -m "$MODEL" "${e[@]}" --from 0 --quiet --nll /dev/full
full() { # full NAME ARGUMENTS...: standard output is full
    local name=$1
    shift
    timeout 60 "$RADAR" "$@" >/dev/full 2>"$D/err" </dev/null
    code=$?
    : >"$D/out"
    judge "$name onto a full disk" 74 'stdout'
}
full run "${run[@]}" "${e[@]}"
full "run --json" "${run[@]}" "${e[@]}" --json
full "eval ppl" eval ppl -m "$MODEL" "${e[@]}" --from 0 --quiet
full tokenize tokenize -m "$MODEL" -p hello
full detokenize detokenize -m "$MODEL" "${e[@]}"
full inspect inspect -m "$MODEL"
full help -h
timeout 60 "$RADAR" "${run[@]}" "${e[@]}" --logits "$D/logits" >&- 2>"$D/err" </dev/null
code=$?
judge "closed stdout" 74 'stdout'
{ timeout 60 "$RADAR" run -m "$MODEL" "${e[@]}" -n 400 --ignore-eos --quiet 2>"$D/err"; echo $? >"$D/code"; } | head -c 1 >"$D/out"
code=$(cat "$D/code")
judge "broken pipe" 74 'stdout'
done_testing
