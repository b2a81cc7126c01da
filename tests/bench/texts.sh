#!/bin/bash
# texts.sh FOLDER: the long texts of the quality figures, from what a clone and Debian's Python and Perl bring: scripture
# (a part of the King James Bible that tests/golden does not score), Python source (argparse of the standard library) and a manual
# (Perl's diagnostics).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1
mkdir -p "$folder"
manual=$(perl -e 'for (@INC) { if (-e "$_/pod/perldiag.pod") { print "$_/pod/perldiag.pod"; last } }')
python3 - "$folder" "$manual" <<'P'
import argparse, sys
folder, manual = sys.argv[1:]
parts = {"kjv": ("tests/golden/kjv-60k.txt", -35000, None), "python": (argparse.__file__, 0, 48000), "manual": (manual, -60000, -20000)}
for name, (path, begin, end) in parts.items():
    text = open(path, "rb").read()[begin:end]
    text = text if begin == 0 else text[text.index(b"\n") + 1:]  # whole lines only
    open(f"{folder}/{name}.txt", "wb").write(text[:text.rindex(b"\n") + 1])
P
sha256sum "$folder"/{kjv,python,manual}.txt
