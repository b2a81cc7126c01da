#!/bin/bash
# kit.sh FOLDER KIT: what tests/gpu.sh runs on a machine where nothing can be built: programs of FOLDER, small models, their commit.
set -eu
folder=$1 kit=$2 most=$((60 << 20))
rm -rf "$kit"
mkdir -p "$kit/programs/lib"
for program in radar gpu/ops gpu/local gpu/bench; do
    strip -o "$kit/programs/$(basename $program)" "$folder/$program"
done
# Libraries that a machine may not have; used where that is so.
for library in libgomp.so.1 libstdc++.so.6 libgcc_s.so.1; do
    cp -L "$(ldd "$folder/radar" | awk -v name=$library '$1 == name { print $3 }')" "$kit/programs/lib/"
done
tar -czf "$kit/programs.tar.gz" -C "$kit/programs" .
rm -r "$kit/programs"
cp -r tests/golden/tiny "$kit/tiny"
git rev-parse --short=12 HEAD >"$kit/commit" 2>/dev/null || echo unknown >"$kit/commit"
bytes=$(du -sb "$kit" | cut -f 1)
[ "$bytes" -le $most ] || { echo "$kit has $bytes bytes, more than $most" >&2; exit 1; }
echo "$kit: $((bytes >> 20)) MiB; there: tests/gpu.sh --prebuilt $kit"
