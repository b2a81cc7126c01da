#!/bin/bash
# fuzz/run.sh SECONDS: every tests/fuzz/fuzz_*.c under libFuzzer, ASan and UBSan, sharing the time; findings stay in build/fuzz/NAME.
set -u
cd "$(dirname "$0")/../.." || exit 1
seconds=${1:-600}
targets=(tests/fuzz/fuzz_*.c)
[ -f "${targets[0]}" ] || { echo "no targets in tests/fuzz" >&2; exit 1; }
share=$((seconds / ${#targets[@]} + 1))
[ -f build/cpu-clang-14/config.mk ] || { echo "type make soak: the compiler is not probed yet" >&2; exit 1; }
read -ra flags <<<"$(sed -n 's/^\(PKG\|MPI\)_CFLAGS := //p' build/cpu-clang-14/config.mk | tr '\n' ' ')"
read -ra libs <<<"$(sed -n 's/^\(PKG\|MPI\)_LIBS := //p' build/cpu-clang-14/config.mk | tr '\n' ' ')"
sources=(runtime/*.c runtime/*/*.c kernels/*.c kernels/cpu/*.c parallel/*.c launch/report/*.c launch/report.c launch/output.c)
passed=0 failed=0

# The library once, with coverage but without a main; then a program per target.
mkdir -p build/fuzz/lib
compile=(clang-14 -std=c11 -O1 -g -fopenmp -ffp-contract=off -I. -D_GNU_SOURCE "${flags[@]}" -fno-sanitize-recover=all)
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -I{} bash -c '
    o=build/fuzz/lib/$(tr / _ <<<"$1").o; shift
    "$@" -o "$o"' _ {} "${compile[@]}" -fsanitize=fuzzer-no-link,address,undefined -c {} || exit 1

# First inputs for the readers of model files, made by the tests' own writer.
mkdir -p build/fuzz/seeds/gguf build/fuzz/seeds/safetensors build/fuzz/seeds/config
"${compile[@]}" -o build/fuzz/make_seeds tests/fuzz/make_seeds.c runtime/base.c runtime/sys.c runtime/status.c "${libs[@]}" -lm &&
    build/fuzz/make_seeds build/fuzz/seeds || exit 1

for target in "${targets[@]}"; do
    name=$(basename "$target" .c) folder=build/fuzz/$(basename "$target" .c)
    mkdir -p "$folder/corpus"
    "${compile[@]}" -fsanitize=fuzzer,address,undefined -o "$folder/$name" "$target" build/fuzz/lib/*.o "${libs[@]}" -lm || exit 1
    seeds=()
    for seed in "tests/fuzz/corpus/$name" "build/fuzz/seeds/${name#fuzz_}"; do
        [ ! -d "$seed" ] || seeds+=("$seed")
    done
    if ASAN_OPTIONS=allocator_may_return_null=1 "$folder/$name" -max_total_time="$share" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$folder/" -print_final_stats=1 "$folder/corpus" "${seeds[@]}" >"$folder/log" 2>&1; then
        passed=$((passed + 1))
        echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log") runs in $share s, no finding"
    else
        failed=$((failed + 1))
        echo "$name: a finding; see $folder"
        grep -m 3 'ERROR\|runtime error\|SUMMARY' "$folder/log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
