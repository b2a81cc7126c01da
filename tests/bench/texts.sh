#!/bin/bash
# texts.sh FOLDER: the two long texts of the quality figures, from what a clone and Debian's Python bring: scripture
# (a part of the King James Bible that tests/golden does not score) and Python source (argparse of the standard library).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1
mkdir -p "$folder"
source=$(python3 -c 'import argparse; print(argparse.__file__)')
# whole lines only: the first one of the cut is dropped
tail -c 35000 tests/golden/kjv-60k.txt | tail -n +2 >"$folder/kjv.txt"
head -c 48000 "$source" | head -n -1 >"$folder/python.txt"
sha256sum "$folder/kjv.txt" "$folder/python.txt"
