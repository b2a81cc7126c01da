#!/bin/bash
# speed.sh short|long FOLDER: the speed figures of README.md, as tables here and as rows in FOLDER.  short: to 32k, with the losses to
# 8k; long: sparse prefill, ranks, and a million tokens.  Environment: RADAR (build/radar), MODEL, THREADS (2).
set -euo pipefail
cd "$(dirname "$0")/../.."
which=$1
folder=$2
radar=${RADAR:-build/radar}
model=${MODEL:-build/models/SmolLM2-135M-Instruct.Q4_1.gguf}
threads=${THREADS:-2}
began=$(date +%s)
mkdir -p "$folder"

bench() { # bench NAME RANKS OPTIONS...
    local name=$1 ranks=$2 launch=()
    shift 2
    [ "$ranks" = 1 ] || launch=(launch/mpirun.sh "$ranks")
    printf '\n== %s (%d s): radar bench %s%s\n' "$name" $(($(date +%s) - began)) "$*" "$([ "$ranks" = 1 ] || echo " on $ranks ranks")"
    "${launch[@]}" "$radar" bench -m "$model" -t $((ranks > threads ? 1 : threads / ranks)) --quiet -o jsonl "$@" >"$folder/$name.jsonl"
    python3 - "$folder/$name.jsonl" <<'P'
import json, sys
share = lambda x: "" if x is None else f"{100 * x:.0f}"
number = lambda x: "" if x is None else f"{x:+.3f}"
print("| test | attention | scan | kv | prefill | tokens/s (least - most) | ms | attention s | MB a token | read GB/s | weights % | scan % | KV % | loss |")
print("|---" * 14 + "|")
for line in open(sys.argv[1]):
    r = json.loads(line)
    name = r["attention"] + (f" {r['scorer']} {r['segment']}" if r["attention"] == "radar" and r["scorer"] != "sketch" else "")
    spread = "extrapolated" if r["extrapolated"] else f"{r['tokens_per_s_min']:.4g} - {r['tokens_per_s_max']:.4g}"
    cells = [r["test"], name, r["scan"] if r["attention"] == "radar" else "", r["kv_type"], r["prefill"],
             f"{r['tokens_per_s']:.4g} ({spread})", f"{r['ms_per_token']:.4g}", f"{r['attention_s']:.4g}" if r["attention_s"] is not None else "",
             f"{r['bytes_per_token'] / 1e6:.4g}" if r["bytes_per_token"] is not None else "", f"{r['read_bandwidth'] / 1e9:.3g}" if r["read_bandwidth"] else "",
             share(r["weight_read_share"]), share(r["scan_read_share"]), share(r["attend_read_share"]),
             number(r["loss"]) if r["loss"] is not None else "not measured"]
    print("| " + " | ".join(str(c) for c in cells) + " |")
P
}

short() {
    tests/bench/texts.sh build/texts >/dev/null
    local loss=$folder/loss
    printf '== losses (%d s): radar eval ppl\n' $(($(date +%s) - began))
    "$radar" eval ppl -m "$model" -t "$threads" -f build/texts/manual.txt --length 8192 --tail 512 --quiet --out "$loss" \
        --attention dense,radar --scan full,progressive
    "$radar" eval ppl -m "$model" -t "$threads" -f build/texts/manual.txt --length 8192 --tail 512 --quiet --out "$loss" \
        --attention dense --prefill dense,radar
    bench prefill 1 -p 512,8000 -n 0 -r 3 --prefill dense,radar --loss "$loss"
    bench decode 1 -p 0 -n 64 -d 0,8000,32000 -r 3 --attention dense,radar --scan full,progressive --loss "$loss"
    bench decode-q8 1 -p 0 -n 64 -d 8000,32000 -r 3 --kv-type q8 --attention dense,radar
    bench prefill-16k 1 -p 16384 -n 0 -r 1 --prefill dense,radar
}

long() {
    bench prefill-dense 1 -p 8192,16384,32768 -n 0 -r 1 --extrapolate 131072
    bench prefill-sparse 1 -p 16384,32768,65536,131072 -n 0 -r 1 --prefill radar
    bench decode-128k 1 -p 0 -n 64 -d 131072 -r 3 --fill synth --attention dense,radar
    bench decode-128k-2-ranks 2 -p 0 -n 64 -d 131072 -r 3 --fill synth
    bench decode-128k-4-ranks 4 -p 0 -n 64 -d 131072 -r 3 --fill synth
    bench million 1 -p 0 -n 16 -d 1048576 -r 3 --fill synth --kv-type q8 --attention dense,radar --scan full,progressive
    bench million-mean 1 -p 0 -n 16 -d 1048576 -r 3 --fill synth --kv-type q8 --scorer mean --segment auto
}

case $which in
short) short ;;
long) long ;;
*) echo "speed.sh short|long FOLDER" >&2 && exit 64 ;;
esac
printf '\n== done: %d s, on %s\n' $(($(date +%s) - began)) "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(date -I)"
