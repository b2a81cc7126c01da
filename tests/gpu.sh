#!/bin/bash
# gpu.sh [--out DIR] [--prebuilt DIR] [--only PHASE,...] [--rehearse]: everything that a machine with a GPU can tell, in under ten minutes.
#
#   facts      the machine, its clocks, this commit
#   correct    every operation beside the CPU's; whole decodes: CUDA beside CPU, run to run, with and without graphs
#   sanitize   compute-sanitizer on the operations, where there is one
#   ranks      the same bits on 1, 2, 4 ranks: threads on one GPU; processes under mpirun, staged and by NCCL
#   ceilings   how fast memory is read and copied
#   kernels    scans, attention and products at a million tokens, as shares of that
#   decode     steps of models of 8B parameters with 32k to 1M tokens of cache
#   torch      PyTorch's attention at the same shapes, where python3 has torch
#
# Programs: of --prebuilt (`make gpu-kit` makes build/gpu-kit), else built here where nvcc and make are, else build/gpu-kit.
# DIR/results.jsonl has a line for each figure as soon as it is known, the table comes last.  What this machine has not is skipped, with
# the reason.  Exit: 1 when something is wrong; a speed target that is missed is told, no more.
# --rehearse: all of it in small, with programs on the fake of a GPU (`make fake-programs`).
set -u
cd "$(dirname "$0")/.." || exit 1

TOTAL=580 # seconds, of everything
PHASES="facts correct sanitize ranks ceilings kernels decode torch"
declare -A CAP=([facts]=15 [correct]=150 [sanitize]=80 [ranks]=90 [ceilings]=20 [kernels]=75 [decode]=170 [torch]=70)
out=build/gpu prebuilt='' only='' rehearse=''
while [ $# -gt 0 ]; do
    case $1 in
    --out | --prebuilt | --only)
        [ $# -ge 2 ] || { echo "gpu.sh: $1 needs a value" >&2; exit 64; }
        printf -v "${1#--}" %s "$2"
        shift
        ;;
    --rehearse) rehearse=1 ;;
    -h | --help) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
    *) echo "gpu.sh: unknown option '$1'; see -h" >&2; exit 64 ;;
    esac
    shift
done
for p in ${only//,/ }; do
    [[ " $PHASES " == *" $p "* ]] || { echo "gpu.sh: no phase '$p'; there are: $PHASES" >&2; exit 64; }
done
mkdir -p "$out" || exit 73
smi=${NVIDIA_SMI:-nvidia-smi}
scratch=$(mktemp -d) || exit 73
trap 'rm -rf "$scratch"' EXIT
results=$out/results.jsonl
: >"$results"
began=$SECONDS
machine="no GPU" commit=unknown
failed=0 missed=0

# ---- lines ----

quoted() { # as a JSON string
    local s=${1//\\/\\\\}
    s=${s//\"/\\\"}
    printf '"%s"' "${s//[[:cntrl:]]/ }"
}

# emit PHASE NAME VALUE UNIT VERDICT [TARGET]: ok, bad, missed, skipped or - (nothing to judge).
emit() {
    local ok=null value=$3
    case $5 in
    ok) ok=true ;;
    bad) ok=false failed=$((failed + 1)) ;;
    missed) ok=false missed=$((missed + 1)) ;;
    esac
    [[ $value =~ ^-?[0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?$ ]] || value=$(quoted "$value")
    printf '{"phase":"%s","name":%s,"value":%s,"unit":%s,"ok":%s,"verdict":"%s","target":%s,"seconds":%d,"machine":%s,"commit":"%s"}\n' \
        "$1" "$(quoted "$2")" "$value" "$(quoted "$4")" "$ok" "$5" "$(quoted "${6:-}")" $((SECONDS - began)) \
        "$(quoted "$machine")" "$commit" >>"$results"
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" "${6:-}" >>"$scratch/table"
    [ "$5" != bad ] || echo "$1: BAD: $2: $3 $4"
}
skip() { # skip PHASE WHAT WHY
    echo "$1: skipped${2:+ $2}: $3"
    emit "$1" "${2:-all}" "$3" "" skipped
}

# Seconds that are left of a phase and of all.
left() {
    local phase=$((phase_end - SECONDS)) all=$((began + TOTAL - SECONDS))
    echo $((phase < all ? phase : all))
}

# measure PHASE WHAT COMMAND...: its lines become ours; it is stopped when the phase's time is over.
measure() {
    local phase=$1 what=$2 lines=0 name value unit verdict target status limit
    shift 2
    limit=$(left)
    [ "$limit" -ge 1 ] || { skip "$phase" "$what" "no time left"; return; }
    echo "$phase: $what, $limit s at most"
    while IFS=$'\t' read -r name value unit verdict target; do
        case $name in
        "# skipped: "*) skip "$phase" "$what" "${name#\# skipped: }" && lines=1 ;;
        \#*) echo "$phase: ${name#\# }" ;;
        *) [ -n "${verdict:-}" ] && emit "$phase" "$name" "$value" "$unit" "$verdict" "${target:-}" && lines=1 ;;
        esac
    done < <(timeout -k 5 "$limit" "$@" 2>"$scratch/err"; echo $? >"$scratch/status")
    status=$(cat "$scratch/status")
    [ "$status" = 0 ] || head -c 2000 "$scratch/err" | tail -n 5 | sed "s/^/$phase: /"
    case $status in
    0) [ $lines = 1 ] || emit "$phase" "$what" 0 "lines" bad ;;
    124 | 137) emit "$phase" "$what" "$limit" "s were not enough" "${CUT:-bad}" ;;
    *) emit "$phase" "$what" "$status" "exit status" bad ;;
    esac
}

# ---- programs ----

unpack() { # unpack DIR: of a kit
    mkdir "$scratch/kit" && tar -xzf "$1/programs.tar.gz" -C "$scratch/kit" || return 1
    programs=$scratch/kit radar=$scratch/kit/radar tiny=$1/tiny
    commit=$(cat "$1/commit")
    # Libraries of the kit stand in for those that are missing.
    ! ldd "$radar" | grep -q 'not found' || export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$scratch/kit/lib
}

build() {
    local mpi=1 folder=build/cuda
    command -v mpicc >/dev/null || mpi=0 folder=build/cuda-nompi
    echo "building $folder: $(nproc) jobs, 200 s at most"
    timeout -k 5 200 make -j"$(nproc)" CUDA=1 MPI=$mpi CUDA_ARCH="${CUDA_ARCH:--gencode arch=compute_90a,code=sm_90a}" gpu-programs \
        >"$out/build.log" 2>&1 || { tail -n 5 "$out/build.log"; return 1; }
    programs=$folder/gpu radar=$folder/radar
}

find_programs() {
    tiny=tests/golden/tiny radar='' programs=''
    if [ -n "$rehearse" ]; then
        programs=${BUILD:-build/cpu}/fake/gpu radar=${BUILD:-build/cpu}/fake/radar
        export RADAR_FAKE_CUDA=${RADAR_FAKE_CUDA:-memory=8000000000}
    elif [ -n "$prebuilt" ]; then
        unpack "$prebuilt" || { echo "gpu.sh: $prebuilt is no kit; make gpu-kit makes one" >&2; exit 66; }
    elif ! { command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; } || ! command -v make >/dev/null || ! build; then
        [ -f build/gpu-kit/programs.tar.gz ] && unpack build/gpu-kit && return
        echo "no programs: nvcc and make are not here, or did not build them, and build/gpu-kit is not there"
        return 1
    fi
}

# Whether there is a device to run on; why not, else.
find_gpu() {
    [ -z "$rehearse" ] || { machine="fake GPU"; return 0; }
    command -v "$smi" >/dev/null || { why="no $smi, so no GPU"; return 1; }
    machine=$("$smi" --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
    [ -n "$machine" ] || { machine="no GPU" why="$smi sees no GPU"; return 1; }
}

# ---- phases ----

phase_facts() {
    local name
    echo "facts: $machine, $(nproc) cores, commit $commit"
    emit facts cores "$(nproc)" "" -
    emit facts "free memory of the host" "$(awk '/MemAvailable/ {printf "%.0f", $2 / 1e6}' /proc/meminfo)" GB -
    [ -z "$why" ] || { skip facts GPU "$why"; return; }
    [ -z "$rehearse" ] || return 0
    for name in driver_version memory.total clocks.sm clocks.mem clocks.max.sm clocks.max.mem temperature.gpu power.draw; do
        emit facts "$name" "$("$smi" --query-gpu="$name" --format=csv,noheader,nounits | head -n 1)" "" -
    done
}

small() { [ -n "$rehearse" ] && echo "$1" || echo "$2"; }

# whole PHASE RUNS: decodes of the tiny models, and of the demo model where it is.
whole() {
    local phase=$1 runs=$2 demo=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
    if [ -n "$rehearse" ]; then
        measure "$phase" "decode of a tiny model" "$programs/local" "$runs" sketch 80 2 "$tiny/qwen3-qknorm-bf16"
        return
    fi
    measure "$phase" "decode of tiny models" "$programs/local" "$runs" all 700 12 "$tiny"/*
    if [ -f $demo ]; then
        measure "$phase" "decode of the demo model" "$programs/local" "$runs" all 1500 24 $demo
    else
        skip "$phase" "decode of the demo model" "$demo is not here"
    fi
}

# Few processes: each has to wait for the device.
phase_correct() {
    # shellcheck disable=SC2046
    measure correct operations "$programs/ops" $(small "layer select" "")
    whole correct alone
}

phase_sanitize() {
    local tool group sanitizer
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    [ -z "$rehearse" ] || { skip sanitize "" "a fake GPU needs none"; return; }
    [ -n "$sanitizer" ] || { skip sanitize "" "no compute-sanitizer here"; return; }
    for group in layer select attend cache; do
        for tool in memcheck racecheck; do
            sane "$tool" "$group"
        done
    done
}

# One line each: the program's own are known.  Too slow is no fault.
sane() {
    local limit status
    limit=$(left)
    [ "$limit" -ge 5 ] || { skip sanitize "$1 $2" "no time left"; return; }
    timeout -k 5 "$limit" "$sanitizer" --tool "$1" --error-exitcode 9 "$programs/ops" "$2" >"$scratch/log" 2>&1
    status=$?
    case $status in
    0) emit sanitize "$1 $2" 0 errors ok ;;
    124 | 137) skip sanitize "$1 $2" "$limit s were not enough" ;;
    *)
        grep -m 8 '^=========' "$scratch/log"
        cp "$scratch/log" "$out/sanitize-$1-$2.log"
        if grep -qi 'not supported\|unable to\|Failed to initialize' "$scratch/log" && ! grep -q 'ERROR SUMMARY: [1-9]' "$scratch/log"; then
            skip sanitize "$1 $2" "the sanitizer does not work here"
        else
            emit sanitize "$1 $2" "$status" "exit status" bad
        fi
        ;;
    esac
}

phase_ranks() {
    local exchange n reason=
    whole ranks ranks
    command -v mpirun >/dev/null || reason="no mpirun here"
    [ -n "$reason" ] || ldd "$radar" | grep -q libmpi || reason="these programs were built without MPI"
    [ -z "$reason" ] || { skip ranks "processes under mpirun" "$reason"; return; }
    printf '[%s]' "$(seq -s , 1 100)" >"$scratch/ids.json"
    for exchange in staged $(small "" nccl); do
        for n in 1 2 4; do
            under_mpirun "$exchange" $n
        done
    done
}

# under_mpirun EXCHANGE N: the logits of all numbers of ranks have the same bits.  Ranks share GPU 0, each as if on a machine of its own.
under_mpirun() {
    local limit name="$1, $2 processes" logits=$scratch/logits-$1-$2
    limit=$(left)
    [ "$limit" -ge 5 ] || { skip ranks "$name" "no time left"; return; }
    # shellcheck disable=SC2016
    NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1 timeout -k 5 "$limit" launch/mpirun.sh "$2" \
        bash -c 'NCCL_HOSTID=radar-$OMPI_COMM_WORLD_RANK exec "$@"' - "$radar" run -m "$tiny/qwen3-qknorm-bf16" --ids "$scratch/ids.json" \
        -n "$(small 2 16)" --ignore-eos --temp 0 --dense-below 0 --window 32 --budget 32 --shards 4 --stripe 64 -t 1 --backend cuda \
        --device 0 --exchange "$1" --logits "$logits" --quiet >"$scratch/log" 2>&1 || rm -f "$logits"
    if [ ! -s "$logits" ]; then
        grep -m 3 '^radar: ' "$scratch/log" | sed 's/^/ranks: /'
        if [ "$1" = nccl ]; then skip ranks "$name" "$(grep -m 1 '^radar: ' "$scratch/log")"; else emit ranks "$name" 0 runs bad; fi
    elif cmp -s "$logits" "$scratch/logits-staged-1"; then
        emit ranks "$name" 1 "same bits" ok
    else
        emit ranks "$name" 0 "same bits" bad
    fi
}

# shellcheck disable=SC2046
phase_ceilings() { measure ceilings memory "$programs/bench" ceilings $(small --toy ""); }
# shellcheck disable=SC2046
phase_kernels() { measure kernels "kernels of a step" "$programs/bench" kernels $(small --toy ""); }

phase_decode() {
    local shape
    for shape in $(small toy "llama-3.1-8b qwen3-8b"); do
        # shellcheck disable=SC2046
        CUT=skipped measure decode "$shape" "$programs/bench" decode "$shape" "$scratch" $(small --toy "")
    done
}

phase_torch() {
    [ -z "$rehearse" ] || { skip torch "" "it wants a GPU"; return; }
    python3 -c 'import torch' 2>/dev/null || { skip torch "" "python3 has no torch"; return; }
    CUT=skipped measure torch "attention by torch" python3 tests/gpu/torch_sdpa.py
}

# ---- the table ----

summary() {
    echo
    awk -F'\t' '
        { key = $1 }
        $5 == "ok" { ok[key]++ } $5 == "bad" { bad[key]++ } $5 == "missed" { missed[key]++ } $5 == "skipped" { skipped[key]++ }
        !(key in seen) { seen[key] = 1; order[++n] = key }
        END {
            printf "%-10s %6s %6s %8s %9s\n", "phase", "ok", "bad", "missed", "skipped"
            for (i = 1; i <= n; i++)
                printf "%-10s %6d %6d %8d %9d\n", order[i], ok[order[i]], bad[order[i]], missed[order[i]], skipped[order[i]]
        }' "$scratch/table"
    echo
    awk -F'\t' '($1 == "ceilings" || $1 == "kernels" || $1 == "decode" || $1 == "torch") && $5 != "skipped" && $2 !~ /: (time|attended|launches)/ {
            printf "%-52s %10s %-16s %-7s %s\n", $2, $3, $4, $5 == "-" ? "" : $5, $6
        }' "$scratch/table"
    awk -F'\t' '$5 == "bad" { printf "BAD %s: %s: %s %s\n", $1, $2, $3, $4 }' "$scratch/table" | head -n 40
    echo
    echo "$machine, commit $commit: $failed wrong, $missed targets missed, $((SECONDS - began)) s; $results"
}

commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
why=
find_gpu || true
[ -n "$why" ] || find_programs || why="no programs to run"
[ -n "$why" ] || why=$(timeout 60 "$programs/local" alone none 1 1 - | sed -n 's/^# skipped: //p')
for p in $PHASES; do
    [ -z "$only" ] || [[ ",$only," == *",$p,"* ]] || continue
    phase_end=$((SECONDS + CAP[$p]))
    if [ "$p" != facts ] && [ -n "$why" ]; then skip "$p" "" "$why"; else "phase_$p"; fi
done
summary
[ $failed = 0 ]
