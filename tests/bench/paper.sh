#!/bin/bash
# paper.sh FOLDER: the experiments of the Radar paper and of its reviewers, on the demo model and three long texts, as rows in FOLDER
# and one page, FOLDER/report.html.  Stopped and started again it goes on where it was.  Environment: RADAR (build/radar), MODEL,
# THREADS (2), P (ranks, 1).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-build/paper}
radar=${RADAR:-build/radar}
model=${MODEL:-build/models/SmolLM2-135M-Instruct.Q4_1.gguf}
texts=build/texts
launch=()
[ "${P:-1}" = 1 ] || launch=(launch/mpirun.sh "$P")
began=$(date +%s)
tests/bench/texts.sh $texts >/dev/null

evaluate() { # evaluate KIND OPTIONS...
    local kind=$1
    shift
    echo "== $(($(date +%s) - began)) s: eval $kind $*" >&2
    "${launch[@]}" "$radar" eval "$kind" -m "$model" -t "${THREADS:-2}" --out "$folder" "$@"
}

# Loss against budget, and so against bytes: every method, 512 tokens behind a context of 7,680.  One call prefills once for all its
# settings; an attention that has to see the prompt prefills for itself.
methods() { # methods TEXT
    local at=(-f "$1" --length 8192 --tail 512)
    evaluate ppl "${at[@]}" --attention dense,radar --scorer sketch,exact,mean,outlier,minmax --budget 176,352,704
    evaluate ppl "${at[@]}" --scorer mean,rf --segment 32 --rf-form pair --rf-features 1024 --share head --dense-below 0 --budget 512
    evaluate ppl "${at[@]}" --scorer outlier,minmax,exact --share head --budget 512
    evaluate ppl "${at[@]}" --sketch-bits 1,4 --budget 352
    evaluate ppl "${at[@]}" --attention streaming --window 256,768,1024
    evaluate ppl "${at[@]}" --attention h2o,snapkv,subgen --budget 512
}
methods $texts/kjv.txt
methods $texts/python.txt
methods $texts/manual.txt

# Radar as published; its selection strategies; the n and k sweeps; what centring and tempering do for its features.
short=(-f $texts/manual.txt --length 4096 --tail 256)
evaluate ppl "${short[@]}" --attention dense,radar
evaluate ppl "${short[@]}" --preset paper,code --segments 8,64
evaluate ppl "${short[@]}" --scorer exact --pick random,bottom,last --segments 22
evaluate ppl "${short[@]}" --scorer sketch,rf --segments 8,16,32,64 --dense-below 0
evaluate ppl "${short[@]}" --scorer rf --rf-features 64,256,1024,2048 --dense-below 0 --segments 32
evaluate ppl "${short[@]}" --scorer rf --rf-features 256 --rf-center --rf-temper 1,0.5 --dense-below 0 --segments 32

# Time of a decode step and loss against the length of the context.
evaluate ppl -f $texts/kjv.txt --length 1000,2000,4000,8000 --tail 64 --batch 1 --attention dense,radar --scorer sketch,mean --dense-below 0

# Which segments are found: hit rates, recall, mass; the certificate against the truth; what attention looks like.
kjv=(-f $texts/kjv.txt --length 8192)
evaluate recall "${kjv[@]}" --tail 128 --every 8 --scorer sketch,mean,outlier,minmax,rf,exact --dense-below 0
evaluate recall "${kjv[@]}" --tail 128 --every 8 --attention streaming --window 768
for text in kjv python manual; do
    evaluate calibrate -f $texts/$text.txt --length 2048,4096,8192 --tail 128 --every 8 --dense-below 0
done
evaluate stats "${kjv[@]}" --tail 64
evaluate bound -f $texts/kjv.txt --length 4096

# Facts hidden in long texts, and tasks that selection is known to fail on.
facts=(-f tests/golden/kjv-60k.txt --length 6500 --questions 30 --depths 10)
evaluate needle "${facts[@]}" --attention dense,radar --scorer sketch,exact --budget 352
evaluate needle "${facts[@]}" --scorer outlier,minmax --share head --budget 512
evaluate needle "${facts[@]}" --scorer mean,rf --segment 32 --rf-form pair --rf-features 1024 --share head --dense-below 0 --budget 512
evaluate needle "${facts[@]}" --attention streaming --window 768
evaluate needle "${facts[@]}" --attention h2o,snapkv,subgen --budget 512
evaluate needle -f tests/golden/kjv-60k.txt --length 1500,3000,6000 --attention dense,radar --scorer sketch,exact,mean --budget 352 --dense-below 0
evaluate ruler -f tests/golden/kjv-60k.txt --length 4096 --attention dense,radar,streaming --scorer sketch,exact,mean --budget 352 --dense-below 0

# Free generation without a prompt.
evaluate generate -n 1024 --temp 1 --attention dense,streaming,radar --scorer sketch,mean --budget 128 --dense-below 0

"$radar" report "$folder" -o "$folder/report.html"
echo "$(($(date +%s) - began)) s: $folder/report.html" >&2
tests/bench/check_paper.py "$folder" | tee "$folder/tables.txt"
