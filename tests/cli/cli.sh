# cli.sh - for the scripts beside it: run a command, hold it to an exit code and to one line on stderr; TAP.
# Environment: RADAR (build/radar), RADAR_NO_MODEL=1 allows to skip what needs the demo model.
RADAR=${RADAR:-build/radar}
MODEL=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
TINY=tests/golden/tiny/llama-tied-f32
D=$(mktemp -d) || exit 1
trap 'rm -rf "$D"' EXIT
n=0

ok() { # ok STATUS NAME
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}

show() { # what a failed case saw
    echo "# exit $code"
    head -n 5 "$D/err" | sed 's/^/# stderr: /'
    head -c 300 "$D/out" | sed 's/^/# stdout: /'
}

# try COMMAND...: runs it (60 s at most, nothing on stdin); leaves code, $D/out, $D/err.
try() {
    timeout -k 5 "${SECONDS_EACH:-60}" "$@" >"$D/out" 2>"$D/err" </dev/null
    code=$?
}

# judge NAME CODE PATTERN: the exit code, exactly one line of ours on stderr (mpirun adds its own), which matches; nothing on stdout.
judge() {
    local lines
    lines=$(grep -c '^radar: ' "$D/err")
    if [ "$code" = "$2" ] && [ "$lines" = 1 ] && grep '^radar: ' "$D/err" | grep -q -- "$3"; then
        ok 0 "$1 ($2)"
    else
        ok 1 "$1: expected $2 and one line with '$3'"
        show
    fi
}

# refused NAME CODE PATTERN ARGUMENTS...: radar ends so, in one process, with nothing else on stderr.
refused() {
    local name=$1 want=$2 pattern=$3
    shift 3
    try "$RADAR" "$@"
    if [ "$(wc -l <"$D/err")" != 1 ]; then
        ok 1 "$name: one line on stderr"
        show
        return
    fi
    judge "$name" "$want" "$pattern"
}

# accepted NAME ARGUMENTS...: exit 0 and, with --quiet, a silent stderr.
accepted() {
    local name=$1
    shift
    try "$RADAR" "$@"
    if [ "$code" = 0 ] && [ ! -s "$D/err" ]; then ok 0 "$name"; else ok 1 "$name"; show; fi
}

done_testing() { echo "1..$n"; }

if [ ! -f "$MODEL" ] && [ "${RADAR_NO_MODEL:-0}" = 1 ]; then
    echo "1..0 # SKIP no demo model, and RADAR_NO_MODEL=1"
    exit 0
fi
