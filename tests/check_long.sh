#!/bin/bash
# check_long.sh RADAR MODEL: the quality figures of README.md; tens of minutes. Loss above dense on the last 512 of 8,192 tokens for
# every scorer, and every needle prompt that dense attention answers. Environment: P, ranks (default 1).
set -u
cd "$(dirname "$0")/.." || exit 1
radar=$1 model=$2
passed=0 failed=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
launch=()
[ "${P:-1}" = 1 ] || launch=(launch/mpirun.sh "$P")

check() { # check STATUS TEXT
    if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $2"; fi
}
get() { python3 -c 'import json, sys; v = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$scratch/out" "$1"; }

echo "loss of the last 511 of 8,192 tokens (King James Bible), nats a token"
printf '%-34s %9s %9s %9s %9s\n' policy loss 'above dense' read coverage
dense=
declare -A losses # above dense
policy() { # policy NAME OPTIONS...
    local name=$1
    shift
    if ! "${launch[@]}" "$radar" eval ppl -m "$model" --ids tests/golden/ids-kjv-8192.u32 --from 7680 --quiet --json "$@" >"$scratch/out"; then
        check 1 "$name does not run"
        return
    fi
    [ -n "$dense" ] || dense=$(get 'v["nll_mean"]')
    above=$(get "round(v['nll_mean'] - $dense, 4)")
    losses[$name]=$above
    printf '%-34s %9.4f %9.4f %9.0f %9.4f\n' "$name" "$(get 'v["nll_mean"]')" "$above" "$(get 'v["attended_tokens_mean"]')" "$(get 'v["coverage_mean"]')"
}
policy dense --attention dense
policy "radar, sketch (default)"
policy "radar, exact scores" --scorer exact
policy "radar, mean" --scorer mean
policy "radar, rf plain" --scorer rf
policy "radar, rf pair" --scorer rf --rf-form pair --dense-below 0
policy streaming --attention streaming

less() { # less A B: the loss of A is below that of B (a name of the table, or a number)
    local a=${losses[$1]:-$1} b=${losses[$2]:-$2}
    awk -v a="$a" -v b="$b" 'BEGIN { exit !(a == a + 0 && b == b + 0 && a + 0 <= b + 0) }'
    check $? "$1 ($a above dense) is to lose at most as much as $2 ($b)"
}
less "radar, sketch (default)" 0.02
less "radar, exact scores" "radar, mean"
less "radar, sketch (default)" "radar, mean"
less "radar, mean" "radar, rf plain"
less "radar, rf plain" streaming

echo
echo "hidden codes: one prefill per prompt, answered with Radar (defaults) and dense"
python3 - "$scratch" <<'P'
import json, sys
for p in json.load(open("tests/golden/needle-smollm2.json"))["prompts"]:
    open(f"{sys.argv[1]}/{p['name']}.{p['code']}.prompt", "w").write(p["prompt"])
P
for prompt in "$scratch"/*.prompt; do
    name=$(basename "$prompt" .prompt) code=${prompt%.prompt}
    code=${code##*.}
    if ! "${launch[@]}" "$radar" compare -m "$model" -f "$prompt" --tail 2 -n 12 --quiet --json >"$scratch/out"; then
        check 1 "$name does not run"
        continue
    fi
    sparse=$(get "v['sides'][0]['answer'].startswith('$code')") full=$(get "v['sides'][1]['answer'].startswith('$code')")
    printf '%-16s %6s tokens  radar %-6s dense %-6s\n' "$name" "$(get 'v["prompt_tokens"]')" "$sparse" "$full"
    [ "$full" = False ] || [ "$sparse" = True ]
    check $? "$name: dense answers, radar does not"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
