#!/bin/bash
# run_all.sh UNIT_PROGRAM... [-- "TAP_SCRIPT ARGUMENTS"...]: runs them all, then prints `N passed, N failed`; fails when anything did.
# JOBS (1): how many unit programs run at once; their reports come in the order given.
# A program that dies, hangs, says nothing or ends with an error without naming a failed test counts as one more failure.
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 skipped=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

# cmocka writes "[  PASSED  ] 3 test(s)." per group and ends with the number of failures.
count() { sed -n "s/^\[  $1 *\] \([0-9]*\) test(s).*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }
begun() { sed -n 's/^\[==========\] Running \([0-9]*\) test(s).*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }'; }

# Its output and its status, by its name.
run_unit() {
    timeout "${UNIT_SECONDS:-300}" "$1" >"$scratch/$(basename "$1").log" 2>&1
    echo $? >"$scratch/$(basename "$1").status"
}

report_unit() {
    local status ok bad skip log
    log=$scratch/$(basename "$1").log
    status=$(cat "$scratch/$(basename "$1").status")
    ok=$(count PASSED) bad=$(count FAILED) skip=$(count SKIPPED)
    # Tests that were announced and have no result: the program died in them.
    if [ "$((ok + bad + skip))" -ne "$(begun)" ] || [ "$(begun)" = 0 ] || { [ "$status" -ne 0 ] && [ "$bad" = 0 ]; }; then
        bad=$((bad + 1))
        echo "$1: ended with status $status (124: longer than ${UNIT_SECONDS:-300} s) after $((ok + skip)) of $(begun) tests"
    fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    echo "$(basename "$1"): $ok passed, $bad failed$([ "$skip" = 0 ] || echo ", $skip skipped")"
    [ "$bad" = 0 ] || grep -v '^\[ RUN\|^\[       OK' "$log" | tail -n 60
}

units=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    units+=("$1")
    shift
done
running=0
# Threads that spin while they wait would take the cores from the programs beside them.
[ "${JOBS:-1}" -eq 1 ] || export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
for unit in "${units[@]}"; do
    if [ "${JOBS:-1}" -gt 1 ]; then
        if [ "$running" -ge "$JOBS" ]; then wait -n; else running=$((running + 1)); fi
        run_unit "$unit" &
        continue
    fi
    run_unit "$unit"
    report_unit "$unit"
done
wait
if [ "${JOBS:-1}" -gt 1 ]; then for unit in "${units[@]}"; do report_unit "$unit"; done; fi

if [ $# -gt 1 ]; then
    shift
    # prove's own engine, for its exact counts: a missing plan or a bad exit is a failure too.
    perl -MTAP::Harness -e '
        my $totals = shift;
        my $harness = TAP::Harness->new({verbosity => $ENV{V} ? 1 : 0, failures => 1, errors => 1, timer => 1,
                                         exec => sub { ["bash", split / /, $_[1]] }});
        my $all = $harness->runtests(@ARGV);
        my ($passed, $failed, $skipped) = (0, 0, 0);
        for my $p ($all->parsers) {
            $skipped += $p->skipped;
            $passed += $p->actual_passed - $p->skipped;
            $failed += $p->failed;
            $failed++ if $p->has_problems && !$p->failed;
        }
        open my $f, ">", $totals or die; print $f "$passed $failed $skipped\n"; close $f or die;
    ' "$scratch/totals" "$@" && read -r tap_passed tap_failed tap_skipped <"$scratch/totals" || tap_passed=0 tap_failed=1 tap_skipped=0
    passed=$((passed + tap_passed)) failed=$((failed + tap_failed)) skipped=$((skipped + tap_skipped))
fi

[ "$passed" -gt 0 ] || failed=$((failed + 1)) # nothing ran: not a success
[ "$skipped" = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
