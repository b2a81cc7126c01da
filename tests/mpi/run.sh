#!/usr/bin/env bash
# Runs every program BUILD_DIR/mpi/test_* on each number of ranks in NP and prints TAP, one line per run; for prove.
# usage: tests/mpi/run.sh BUILD_DIR      environment: NP (default "1 2 3 4 8")
set -u
if [ $# -ne 1 ]; then
    echo "usage: tests/mpi/run.sh BUILD_DIR (environment: NP, default \"1 2 3 4 8\")" >&2
    exit 64
fi
read -ra ranks <<<"${NP:-1 2 3 4 8}"
programs=()
for file in "$1"/mpi/test_*; do
    if [ -f "$file" ] && [ -x "$file" ]; then programs+=("$file"); fi
done
if [ ${#programs[@]} -eq 0 ]; then
    echo "Bail out! no test programs in $1/mpi; build them first"
    exit 66
fi
# Root is usual in containers; a rank is one thread here, and ranks may share cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
# Containers often forbid reading another process's memory, and Open MPI then prints warnings.
export OMPI_MCA_btl_vader_single_copy_mechanism=none
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" # Open MPI's own
# Waiting ranks give way: the machine may be busy with other things.
export OMPI_MCA_mpi_yield_when_idle=1
echo "1..$((${#programs[@]} * ${#ranks[@]}))"
i=0 failed=0
for program in "${programs[@]}"; do
    for np in "${ranks[@]}"; do
        i=$((i + 1))
        if output=$(timeout 120 mpirun --oversubscribe --bind-to none -np "$np" "$program" 2>&1); then
            echo "ok $i - $(basename "$program") on $np ranks"
        else
            status=$?
            failed=1
            echo "not ok $i - $(basename "$program") on $np ranks (exit $status)"
            sed 's/^/    # /' <<<"$output"
        fi
    done
done
exit $failed
