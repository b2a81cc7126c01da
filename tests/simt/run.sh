#!/bin/bash
# run.sh PROGRAM...: the CUDA kernels' tests, which each have one thread, as many at once as there are cores; TAP, for prove.
set -u
cd "$(dirname "$0")/../.." || exit 1
[ $# -gt 0 ] || { echo "Bail out! no test programs; build them first"; exit 66; }
D=$(mktemp -d) || exit 1
trap 'rm -rf "$D"' EXIT

run() { # run PROGRAM FOLDER
    local name
    name=$(basename "$1")
    CMOCKA_MESSAGE_OUTPUT=TAP timeout "${UNIT_SECONDS:-300}" "$1" >"$2/$name.tap" 2>"$2/$name.err"
    echo $? >"$2/$name.status"
}
export -f run
printf '%s\n' "$@" | xargs -P "$(nproc)" -I PROGRAM bash -c 'run PROGRAM '"$D"

n=0
for program in "$@"; do
    name=$(basename "$program")
    status=$(cat "$D/$name.status")
    announced=$(sed -n 's/^[ \t]*1\.\.\([0-9]*\).*/\1/p' "$D/$name.tap" | head -n 1)
    seen=0
    while read -r word rest; do
        n=$((n + 1)) seen=$((seen + 1))
        echo "$word $n - $name: ${rest#*- }"
    done < <(sed -n 's/^\(ok\|not\) /\1 /p' "$D/$name.tap" | sed 's/^not ok /not_ok /')
    # Tests that were announced and have no result: the program died in them.
    if [ "$seen" -ne "${announced:-0}" ] || [ "$seen" = 0 ] || [ "$status" -ne 0 ]; then
        n=$((n + 1))
        echo "not ok $n - $name ends with status $status after $seen of ${announced:-no} tests"
        tail -n 40 "$D/$name.tap" "$D/$name.err" | sed 's/^/# /'
    fi
done | sed 's/^not_ok /not ok /' | tee "$D/all"
echo "1..$(grep -c '^\(not \)\?ok ' "$D/all")"
! grep -q '^not ok ' "$D/all"
