#!/bin/bash
# texts.sh FOLDER: the long texts of the quality figures, from what a clone and Debian's Python and Perl bring: scripture
# (a part of the King James Bible that tests/golden does not score), Python source (argparse of the standard library) and a manual
# (Perl's diagnostics).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1
mkdir -p "$folder"
source=$(python3 -c 'import argparse; print(argparse.__file__)')
# whole lines only: the first one of the cut is dropped
tail -c 35000 tests/golden/kjv-60k.txt | tail -n +2 >"$folder/kjv.txt"
head -c 48000 "$source" | head -n -1 >"$folder/python.txt"
manual=$(perl -e 'for (@INC) { if (-e "$_/pod/perldiag.pod") { print "$_/pod/perldiag.pod"; last } }')
tail -c 60000 "$manual" | tail -n +2 | head -c 40000 | head -n -1 >"$folder/manual.txt"
sha256sum "$folder"/{kjv,python,manual}.txt
