#!/bin/bash
# What goes wrong with GPUs and between them: one line on stderr that says what, where and the cure, the documented exit code, and
# nobody waits for ever.  On the fake of CUDA and NCCL: tests/simt/fake/fake.h and nccl.c list the faults.
set -u
. tests/mpi/cuda_lib.sh
export SECONDS_EACH=30
ids 140 777 >"$D/ids.json"
JOB=(run -m "$TINY/llama-headdim-bf16" --ids "$D/ids.json" -n 4 --temp 0 --ignore-eos -t 1 --ctx 1024 --chunk 64 --dense-below 0 --segments 3 --window 32 --sinks 4 --stripe 64)

# try COMMAND...: leaves code, $C/out, $C/err.
try() {
    timeout -k 5 "$SECONDS_EACH" "$@" >"$C/out" 2>"$C/err" </dev/null
    code=$?
}
try_mpi() {
    mpi "$@" >"$C/out" 2>"$C/err" </dev/null
    code=$?
}
# judge NAME CODE PATTERN: that exit code, and one line of ours, which matches.
judge() {
    local lines
    lines=$(grep -c '^radar: ' "$C/err")
    if [ "$code" = "$2" ] && [ "$lines" = 1 ] && grep '^radar: ' "$C/err" | grep -Eq -- "$3"; then
        ok 0 "$1 ($2)"
    else
        ok 1 "$1: expected $2 and one line with '$3'"
        sed 's/^/# stderr: /' "$C/err" | head -n 5
        echo "# exit $code"
    fi
}
refused() { # refused NAME CODE PATTERN FAULTS OPTIONS...: one process
    local name=$1 want=$2 pattern=$3 faults=$4
    shift 4
    RADAR_FAKE_CUDA=$faults try "$RADAR" "${JOB[@]}" --quiet "$@"
    judge "$name" "$want" "$pattern"
}
refused_on() { # refused_on NAME CODE PATTERN RANK SETTING OPTIONS...: three ranks, RANK has the SETTING
    local name=$1 want=$2 pattern=$3
    export BAD=$4 WHAT=$5
    shift 5
    try_mpi 3 "$RADAR" "${JOB[@]}" --quiet --backend cuda "$@"
    judge "$name" "$want" "$pattern"
}
falls_back() { # falls_back NAME PATTERN RANK SETTING OPTIONS...: two ranks; it works, and one line says why it is not better
    local name=$1 pattern=$2
    export BAD=$3 WHAT=$4
    shift 4
    try_mpi 2 "$RADAR" "${JOB[@]}" "$@"
    [ "$code" = 0 ] && [ "$(grep -Ec -- "$pattern" "$C/err")" = 1 ]
    ok $? "$name: $(grep -E -- "$pattern" "$C/err" | head -n 1)"
}

# ---- one GPU ----

start refused "no driver" 78 'no NVIDIA driver; install one' no-driver --backend cuda
start refused "an old driver" 78 'CUDA 11.4, this program for .*; install a newer driver' old-driver --backend cuda
start refused "no GPU" 78 'no GPU; see nvidia-smi' devices=0 --backend cuda
start refused "an old GPU" 78 'compute capability 7.5, and 8.0 is the least' sm=75 --backend cuda
start refused "a GPU that is not there" 78 'GPU 5: this process sees 1, numbered from 0' "" --backend cuda --device 5
start refused "no room for its own blocks" 71 'GPU 0: .*out of memory' memory=4000000 --backend cuda
start refused "lost in a step" 69 'GPU 0: .*the device is lost to this process; start again' lost=300 --backend cuda
start refused "kv type" 78 "'q8': not on the CUDA backend; use fp8" "" --backend cuda --kv-type q8
start refused "scorer" 78 "scorer 'minmax': not on the CUDA backend" "" --backend cuda --scorer minmax
start refused "attention" 78 "attention 'h2o': not on the CUDA backend; use --backend cpu" "" --backend cuda --attention h2o
start refused "pick" 78 "not on the CUDA backend; use --pick top" "" --backend cuda --pick random

no_driver_auto() {
    RADAR_FAKE_CUDA=no-driver try "$RADAR" "${JOB[@]}" --backend auto
    [ "$code" = 0 ] && [ "$(grep -c '^backend cpu: CUDA: there is no NVIDIA driver' "$C/err")" = 1 ] && grep -q '^ranks: 1, backend cpu' "$C/err"
    ok $? "auto without a driver: the CPU, and why"
}
start no_driver_auto

# What is too much is refused before weights are read, and what the line names instead is enough.
too_long() {
    export RADAR_FAKE_CUDA=memory=120000000
    local fits
    try "$RADAR" "${JOB[@]}" --backend cuda --ctx 200000
    judge "too long a context" 71 'a context of 200000 tokens needs .* use --ctx [0-9]+ or less'
    fits=$(sed -n 's/.*use --ctx \([0-9]*\) or less.*/\1/p' "$C/err")
    ! grep -q '^load' "$C/err"
    ok $? "before the weights are read"
    try "$RADAR" "${JOB[@]}" --backend cuda --quiet --ctx "${fits:-0}"
    ok "$code" "--ctx ${fits:-0} fits"
}
start too_long

interrupted() {
    local waited=0 pid
    "$RADAR" "${JOB[@]}" --backend cuda --quiet -n -1 >"$C/out" 2>"$C/err" </dev/null &
    pid=$!
    while ! [ -s "$C/out" ] && [ $waited -lt 200 ]; do sleep 0.1; waited=$((waited + 1)); done
    kill -INT "$pid"
    wait "$pid"
    code=$?
    judge "Ctrl-C" 75 'stopped by signal 2'
}
start interrupted

# ---- several ----

if ! command -v mpirun >/dev/null; then
    echo "ok - several ranks # SKIP no mpirun" >"$D/$((n += 1)).tap"
    done_testing
    exit
fi
start refused_on "no driver on one rank" 78 'rank 1: CUDA: there is no NVIDIA driver' 1 RADAR_FAKE_CUDA=no-driver
start falls_back "auto, no driver on one rank" '^backend cpu: rank 1: CUDA: there is no NVIDIA driver' 1 RADAR_FAKE_CUDA=no-driver --backend auto
start refused_on "no NCCL on one rank" 78 'rank 2: no NCCL .*; install libnccl2 there' 2 RADAR_NCCL=/no/such --exchange nccl
start refused_on "another NCCL on one rank" 78 'rank 1: NCCL 2.20.0, but rank 0 has 2.28.9' 1 RADAR_FAKE_NCCL=version=22000 --exchange nccl
start refused_on "two ranks on one GPU" 78 'rank 1: shares GPU 0000:65:00.0 of .* with rank 0' 1 NCCL_HOSTID=0 --exchange nccl
start refused_on "NCCL does not start on one rank" 78 'rank 1: exchanges: ncclCommInitRank: ' 1 RADAR_FAKE_NCCL=init --exchange nccl
start falls_back "auto, no NCCL on one rank" '^exchange staged: rank 1: no NCCL ' 1 RADAR_NCCL=/no/such --backend cuda
start falls_back "auto, two ranks on one GPU" '^exchange staged: rank 1: shares GPU ' 1 NCCL_HOSTID=0 --backend cuda
start refused_on "an exchange fails on one rank" 69 'rank 1: exchange X[1-5].*: ncclBroadcast: .*; see the other ranks' 1 RADAR_FAKE_NCCL=fail=40 --exchange nccl
start refused_on "one rank of three loses its GPU, staged" 69 'rank 1: GPU 0: .*the device is lost to this process' 1 RADAR_FAKE_CUDA=lost=300 --exchange staged
start refused_on "one rank of three loses its GPU, nccl" 69 'rank 1: GPU 0: .*the device is lost to this process' 1 RADAR_FAKE_CUDA=lost=300 --exchange nccl
start refused_on "a rank that NCCL tells of another's end" 69 'rank 0: NCCL: remote process exited; see the other ranks|^radar: NCCL: remote process' 0 "RADAR_FAKE_NCCL=async RADAR_FAKE_CUDA=hung=300" --exchange nccl

# Of a process that ended and is not yet reaped nothing but its number is left.
gone() { ! grep -qa . "/proc/$1/cmdline" 2>/dev/null; }
# killed NAME CARRIER: of three ranks that decode, the last one; mpirun says 128 + 9 and ends the others.
killed() {
    local pid victim waited=0 began
    # shellcheck disable=SC2016
    mpi 3 bash -c 'echo $$ >"$0.$OMPI_COMM_WORLD_RANK"; exec "$@"' "$C/pid" "$RADAR" "${JOB[@]}" --backend cuda --quiet -n -1 \
        --exchange "$2" >"$C/out" 2>"$C/err" </dev/null &
    pid=$!
    while ! [ -s "$C/out" ] && [ $waited -lt 200 ]; do sleep 0.1; waited=$((waited + 1)); done
    victim=$(cat "$C/pid.2")
    began=$(date +%s)
    kill -9 "$victim"
    wait "$pid"
    code=$?
    [ "$code" = 137 ] && [ $(($(date +%s) - began)) -le 20 ] && gone "$(cat "$C/pid.0")" && gone "$(cat "$C/pid.1")"
    ok $? "kill -9 of one rank of three, $1: the others end ($code)"
}
start killed staged staged
start killed nccl nccl
done_testing
