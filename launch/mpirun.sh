#!/bin/bash
# mpirun.sh P COMMAND...: P ranks on this machine with Open MPI's mpirun, also as root, in containers, and with fewer cores than ranks.
# (On a cluster: srun --mpi=pmix, or mpirun with --map-by ppr:N:node:PE=THREADS --bind-to core.)
set -u
ranks=$1
shift
# Root is usual in containers, where Open MPI refuses it by default and may not read another process's memory.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
# Hyperthreads are no slots for Open MPI, so it is told to allow more ranks than slots; they only yield when cores are short.
yield=0
[ "$ranks" -le "$(nproc)" ] || yield=1
export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-$yield}
# Bound to a core, the threads of a rank would share it.
exec mpirun -np "$ranks" --oversubscribe --bind-to none "$@"
