#!/bin/bash
# What is typed wrong ends with exit 64 (78 where it is known but not built), one line; before a model is opened, where that can be known.
. tests/cli/cli.sh
M=/nonexistent # would be exit 66, if anything looked

refused "no command" 64 'no command'
refused "unknown command names the nearest" 64 "did you mean run" rnu
for later in chat batch; do
    refused "$later is not built" 64 "$later is not built" "$later" -m "$M"
done
refused "eval alone" 64 'eval ppl' eval -m "$M"
refused "no model" 64 '-m MODEL is missing' run -p x
refused "no prompt" 64 'no input' run -m "$M"
refused "unknown option names the nearest" 64 'did you mean --temp' run -m "$M" -p x --temprature 1
refused "an option like no other is told without a guess" 64 'unknown option --rope-scale; radar inspect -h' inspect -m x --rope-scale 4
refused "llama.cpp's name of an option" 64 'did you mean --ctx' run -m "$M" -p x --ctx-size 10
refused "unknown letter" 64 'unknown option -Z' run -m "$M" -p x -Z
refused "option of another command" 64 'unknown option' run -m "$M" -p x --from 3
refused "option without its value" 64 'a value must follow' run -m "$M" -p
refused "value for a switch" 64 'takes no value' run -m "$M" -p x --json=1
refused "stray word" 64 "unexpected 'hello'" run -m "$M" -p x hello
refused "empty prompt" 64 'empty' run -m "$M" -p ''
refused "-p with -f" 64 'exclude each other' run -m "$M" -p x -f y
refused "-p with --ids" 64 'exclude each other' run -m "$M" -p x --ids y
refused "--ids with --chat" 64 'exclude each other' run -m "$M" --ids y --chat
refused "--ids with --no-special" 64 'exclude each other' eval ppl -m "$M" --ids y --no-special
refused "--chat-template without --chat" 64 'without --chat' run -m "$M" -p x --chat-template llama3
refused "--budget with --segments" 64 'exclude each other' run -m "$M" -p x --budget 64 --segments 4
refused "--logits and --nll in one file" 64 'same file' eval ppl -m "$M" -p x --logits a --nll a
refused "compare dense with dense" 64 'another attention' compare -m "$M" -p x --attention dense
refused "compare without tokens" 64 'at least one token' compare -m "$M" -p x -n 0

while read -r option value pattern; do
    refused "$option $value" 64 "$pattern" run -m "$M" -p x "$option" "$value"
done <<'T'
-n x whole number
-n -2 whole number
-n 1.5 whole number
-n 99999999999999999999 whole number
-n 1e3 whole number
-c -1 whole number
-t -1 from 0 to 4096
-t 5000 from 0 to 4096
-s -1 from 0 to
-s 1.5 from 0 to
-s 18446744073709551616 from 0 to
--temp -0.1 from 0 to 1000
--temp nan from 0 to 1000
--temp inf from 0 to 1000
--top-k -1 whole number
--top-p 0 from 1e-09 to 1
--top-p 1.01 from 1e-09 to 1
--min-p 2 from 0 to 1
--min-p -1 from 0 to 1
--attention sparse radar|dense|streaming
--scorer best sketch|mean|outlier|minmax|rf|exact|q8top
--sketch-bits 0 from 1 to 4
--outliers 8 from 1 to 7
--budget 0 auto or
--budget automatic auto or
--dense-below -1 auto or
--segments 0 from 1
--window 0 from 1
--sinks -1 from 0
--share all group|head
--pick best top|bottom|random|last
--select some global|local
--rf-features 0 from 1
--rf-form both plain|pair
--backend gpu auto|cpu|cuda
--precision half fast|exact
--kv-type q4 f32|f16|bf16|q8|fp8
--isa sse plain|avx2|avx512
--shards 0 from 1 to 64
--shards 3 power of two
--shards 128 from 1 to 64
--stripe 100 multiple of 64
--stripe 0 from 64
--chunk 0 from 1 to 4096
--chunk 5000 from 1 to 4096
T

echo '[1, 2, 3]' >"$D/ids.json"
refused "--kv-type fp8 is another backend's" 78 'of the CUDA backend' run -m "$TINY" --ids "$D/ids.json" --backend cpu --kv-type fp8
refused "--backend cuda is known, not in this build" 78 'not in this build' run -m "$TINY" --ids "$D/ids.json" --backend cuda

for command in run "eval ppl" compare tokenize detokenize inspect; do
    # shellcheck disable=SC2086
    accepted "$command -h" $command -h
    grep -q -- '--model MODEL' "$D/out"
    ok $? "$command -h lists its options"
done
accepted "radar -h" -h
grep -q 'eval ppl' "$D/out"
ok $? "radar -h lists the commands"
accepted "radar --version" --version
grep -q '^radar [0-9]' "$D/out"
ok $? "radar --version names it"
# Every option that takes a value says its default or what it is without one; numbers say their unit.
"$RADAR" run -h | grep -E '^ +(-.,)? +--(window|budget|shards|stripe|chunk|temp|top-k|predict|ctx|threads|kv-type)' | grep -vc '(default ' >"$D/out"
[ "$(cat "$D/out")" = 0 ]
ok $? "the help gives defaults"
done_testing
