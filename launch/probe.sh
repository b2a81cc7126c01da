#!/bin/bash
# probe.sh CC FOLDER: finds by compiling and linking what this machine offers; prints make variables, and one line of result on stderr.
set -u
cc=$1 folder=$2
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
packages="jansson libpcre2-8 libutf8proc libxxhash"

missing() {
    echo "$1 is missing: type \`make deps\`, or install $2" >&2
    exit 1
}
# links SOURCE FLAGS...: whether the program compiles and links.
links() {
    local source=$1
    shift
    printf '%s\n' "$source" >"$scratch/probe.c"
    $cc -o "$scratch/probe" "$scratch/probe.c" "$@" 2>"$scratch/log"
}

command -v "${cc%% *}" >/dev/null || missing "the compiler $cc" "it, or set CC=gcc"
links 'int main(void) { return 0; }' || missing "what $cc needs to link a program" "libc6-dev"
command -v pkg-config >/dev/null || missing pkg-config pkg-config
for p in $packages; do
    pkg-config --exists "$p" || missing "the library $p" "its development package"
done
# shellcheck disable=SC2086
package_flags=$(pkg-config --cflags $packages) package_libs=$(pkg-config --libs $packages)
[ "${STATIC:-0}" = 0 ] || package_libs="-static-libgcc -Wl,-Bstatic $package_libs -Wl,-Bdynamic"
# shellcheck disable=SC2086
links '#include <jansson.h>
int main(void) { json_decref(json_object()); return 0; }' $package_flags $package_libs || missing "a library that links ($packages)" "their development packages"

mpi_flags= mpi_libs=
if [ "${MPI:-1}" = 1 ]; then
# As system headers, so that -Werror meets only our own code.
mpi_flags=$(pkg-config --cflags ompi-c 2>/dev/null || mpicc --showme:compile 2>/dev/null || mpicc -compile_info 2>/dev/null)
mpi_libs=$(pkg-config --libs ompi-c 2>/dev/null || mpicc --showme:link 2>/dev/null || mpicc -link_info 2>/dev/null)
mpi_flags=$(sed 's/\(^\| \)-I/\1-isystem /g' <<<"$mpi_flags")
# shellcheck disable=SC2086
links '#include <mpi.h>
int main(int n, char **v) { return MPI_Init(&n, &v); }' $mpi_flags $mpi_libs || missing "MPI" "libopenmpi-dev and openmpi-bin, or build with MPI=0"
fi

openmp_flag=
if links '#include <omp.h>
int main(void) { return omp_get_max_threads() < 1; }' -fopenmp; then openmp_flag=-fopenmp; fi
[ -n "$openmp_flag" ] || missing "OpenMP for $cc" "libgomp1 (gcc) or libomp-14-dev (clang-14)"

echo "PKG_CFLAGS := $package_flags"
echo "PKG_LIBS := $package_libs"
echo "MPI_CFLAGS := $mpi_flags"
echo "MPI_LIBS := $mpi_libs"
echo "OPENMP_FLAG := $openmp_flag"
echo "mpi=${MPI:-1} openmp=1 -> $folder" >&2
