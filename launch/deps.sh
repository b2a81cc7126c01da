#!/bin/bash
# deps.sh PURPOSE...: installs the Debian packages that are missing for build, test, demo, check or fuzz, and says which.
# DEPS=0: installs nothing, prints the line to type and fails.
set -u

# probe_PURPOSE prints the packages whose contents are not found; probing goes by what is needed, not by package names,
# so that a machine which has it from elsewhere is left alone.
lacks() { # lacks PACKAGE COMMAND...: PACKAGE when the command fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || echo "$package"
}
has_libc() { echo '#include <stdio.h>' | gcc -E -o /dev/null -; }
has_mpi() { pkg-config --exists ompi-c || mpicc --showme:compile; }
probe_build() {
    lacks gcc command -v gcc
    lacks libc6-dev has_libc
    lacks make command -v make
    lacks pkg-config command -v pkg-config
    lacks libopenmpi-dev has_mpi
    lacks openmpi-bin command -v mpirun
    lacks libjansson-dev pkg-config --exists jansson
    lacks libpcre2-dev pkg-config --exists libpcre2-8
    lacks libutf8proc-dev pkg-config --exists libutf8proc
    lacks libxxhash-dev pkg-config --exists libxxhash
}
probe_test() {
    lacks g++ command -v g++
    lacks libcmocka-dev pkg-config --exists cmocka
    lacks perl perl -MTAP::Harness -e 1
    lacks python3 command -v python3
}
probe_demo() { lacks python3-pip python3 -m pip --version; }
probe_check() {
    lacks clang-format-14 command -v clang-format-14
    probe_fuzz
}
has_clang_runtime() {
    echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d && n ? 0 : 0; }' |
        clang-14 -fsanitize=fuzzer,address,undefined -x c -o /dev/null -
}
has_clang_openmp() { echo '#include <omp.h>' | clang-14 -fopenmp -E -o /dev/null -x c -; }
probe_fuzz() {
    lacks clang-14 command -v clang-14
    lacks libclang-rt-14-dev has_clang_runtime
    lacks libomp-14-dev has_clang_openmp
}

missing() {
    local purpose
    for purpose in "$@"; do
        "probe_$purpose"
    done | sort -u | tr '\n' ' ' | sed 's/ $//'
}

for purpose in "$@"; do
    declare -F "probe_$purpose" >/dev/null || { echo "deps.sh: no purpose '$purpose'" >&2; exit 64; }
done
packages=$(missing "$@")
[ -n "$packages" ] || exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root="sudo "
line="${as_root}apt-get install -y --no-install-recommends $packages"
echo "missing Debian packages: $packages"
if [ "${DEPS:-1}" = 0 ]; then
    echo "nothing is installed because DEPS=0; type:  $line" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null || { [ -n "$as_root" ] && ! command -v sudo >/dev/null; }; then
    echo "cannot install them here (no apt-get, or neither root nor sudo); the equivalent of:  $line" >&2
    exit 1
fi
echo "installing them:  $line"
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# Package lists may be absent or old: then a refresh and a second try.
if ! $line >"$log" 2>&1; then
    { ${as_root}apt-get update && $line; } >"$log" 2>&1 || { tail -n 5 "$log" >&2; echo "installing failed; type:  $line" >&2; exit 1; }
fi
packages=$(missing "$@")
[ -z "$packages" ] || { echo "installed, but still not found: $packages" >&2; exit 1; }
