# cuda_lib.sh - for the scripts beside it: the command with the CUDA backend on a device that is the process (tests/simt/fake), cases
# that run two at a time, and TAP in their order.
# Environment: BUILD (build/cpu).
BUILD=${BUILD:-build/cpu}
RADAR=$BUILD/fake/radar
RADAR_NCCL=$PWD/$BUILD/fake/libnccl.so.2
TINY=tests/golden/tiny
D=$(mktemp -d) || exit 1
trap 'rm -rf "$D"' EXIT
export RADAR_NCCL
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=passive
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_mpi_yield_when_idle=1
n=0
running=0

[ -x "$RADAR" ] && [ -f "$RADAR_NCCL" ] || { echo "Bail out! no $RADAR; make $RADAR $BUILD/fake/libnccl.so.2"; exit 66; }

# ok STATUS NAME: a line of TAP; its number comes when all are there.
ok() { if [ "$1" = 0 ]; then echo "ok - $2"; else echo "not ok - $2"; fi; }

# start COMMAND...: a case, in a folder of its own, $C; its lines are kept.
start() {
    n=$((n + 1))
    [ "$running" -lt 2 ] || { wait -n; running=$((running - 1)); }
    running=$((running + 1))
    (C=$D/$n && mkdir "$C" && "$@" >"$D/$n.tap") &
}
done_testing() {
    wait
    local i
    for ((i = 1; i <= n; i++)); do cat "$D/$i.tap"; done |
        awk '/^(not )?ok - / { sub(/ok/, "ok " ++k) } { print } END { print "1.." k }'
}

# ids N SEED: token ids below 128, the vocabulary of the tiny models.
ids() { awk -v n="$1" -v x="$2" 'BEGIN { printf "["; for (i = 0; i < n; i++) { x = (x * 1103515245 + 12345) % 2147483648; printf "%s%d", i ? "," : "", int(x / 65536) % 128 } print "]" }'; }

# mpi P COMMAND...: ranks that NCCL takes for machines of their own.  BAD, WHAT: the rank BAD has WHAT, settings, in its environment.
mpi() {
    local p=$1
    shift
    # shellcheck disable=SC2016
    timeout -k 5 "${SECONDS_EACH:-120}" mpirun --oversubscribe --bind-to none -np "$p" bash -c \
        'NCCL_HOSTID=$OMPI_COMM_WORLD_RANK; export NCCL_HOSTID; [ "$OMPI_COMM_WORLD_RANK" = "${BAD:-}" ] && export $WHAT; exec "$@"' \
        _ "$@"
}

# value NAME FILE: a member of the object in FILE, as it stands there; of the counts in a report too.
value() { grep -o "\"$1\":\(\[[^]]*\]\|[^,}]*\)" "$2" | head -n 1 | cut -d: -f2-; }
