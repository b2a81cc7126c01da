#!/bin/bash
# radar report: one page, complete, self-contained and well-formed from rows of every kind; one picture alone; what cannot be read or written.
RADAR_NO_MODEL=0 # none is needed: nothing to skip
. tests/cli/cli.sh
python3 tests/cli/report_rows.py "$D/rows" || exit 1

accepted "report" report "$D/rows" -o "$D/page.html" --quiet
python3 - "$D/page.html" "$D/rows" <<'P' 2>"$D/err"
import re, sys, xml.etree.ElementTree as xml
page = open(sys.argv[1], encoding="utf-8").read()
assert page.startswith("<!DOCTYPE html>") and page.endswith("</main>\n</body>\n</html>\n"), "not whole"
pictures = re.findall(r"<svg .*?</svg>", page, re.S)
assert len(pictures) == 15, f"{len(pictures)} pictures"
titles = set()
for text in pictures:
    svg = xml.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    assert svg.get("role") == "img" and svg.get("aria-label") and svg.get("viewBox").startswith("0 0 360 ")
    assert svg.get("width") == "100%"
    title, described = svg.find(name + "title"), svg.find(name + "desc")
    assert title.text == svg.get("aria-label") and len(described.text) > 20
    titles.add(title.text)
    for one in svg.iter(name + "text"):
        assert float(one.get("font-size")) >= 11, one.get("font-size")
        assert one.text, "empty text"
assert len(titles) == 15
rest = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
for link in "http", "url(", "src=", "href=", "@import", "<script", "<link", "javascript:":
    assert link not in rest, link
assert "Not here" not in page
for number in "nan", "inf,", "(null)":
    assert number not in rest, number
tables = re.findall(r"<table>.*?</table>", page, re.S)
assert len(tables) == 6, f"{len(tables)} tables"
for table in tables:
    rows = xml.fromstring(table)
    width = len(rows.findall("thead/tr/th"))
    assert all(len(row) == width for row in rows.findall("tbody/tr")), "ragged table"
lines = sum(len(open(f"{sys.argv[2]}/{k}.jsonl").readlines())
            for k in ("ppl", "recall", "needle", "ruler", "generate", "calibrate", "bound", "stats"))
assert len(xml.fromstring(tables[-1]).findall("tbody/tr")) == lines, "a row is missing from the table of settings"
assert "radar eval ppl -m build/models/" in page and "radar 0.1.0" in page, "no commands"
P
status=$?
ok $status "the page is whole, self-contained and well-formed"
[ $status = 0 ] || show

# The picture shows what the rows hold: 'above dense' computed here and by radar, from the losses token by token.
python3 - "$D" <<'P' 2>"$D/err"
import json, math, re, sys
d = sys.argv[1]
rows = [json.loads(line) for line in open(d + "/rows/ppl.jsonl")]
page = open(d + "/page.html", encoding="utf-8").read()
checked = 0
for row in rows:
    if row["attention"] == "dense":
        continue
    dense = next(o for o in rows if o["attention"] == "dense" and o["length"] == row["length"])
    above = [a - b for a, b in zip(row["nll"], dense["nll"])]
    mean = math.fsum(above) / len(above)
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in above) / (len(above) - 1) / len(above))
    assert f"above dense {mean:.4f} ± {error:.4f}" in page, (row["scorer"], mean, error)
    checked += 1
assert checked == 38, checked
slope = lambda p: (lambda x, y: sum((a - sum(x) / len(x)) * b for a, b in zip(x, y)) / sum((a - sum(x) / len(x)) ** 2 for a in x))(
    [math.log(a) for a, _ in p], [math.log(b) for _, b in p])
points = [(r["length"], r["ms_per_token"]) for r in rows if r["attention"] == "dense"]
assert f"dense: t^{slope(points):.2f}" in page, slope(points)
P
status=$?
ok $status "losses above dense, their errors and the exponent are those of the rows"
[ $status = 0 ] || show

for name in loss-budget loss-bytes loss-length position time recall heat scores needle ruler n-sweep k-sweep calibrate bound sketch; do
    try "$RADAR" report "$D/rows" --svg $name -o "$D/$name.svg" --quiet
    [ "$code" = 0 ] && python3 -c "
import sys, xml.etree.ElementTree as xml
svg = xml.parse(sys.argv[1]).getroot()
assert svg.find('{http://www.w3.org/2000/svg}rect').get('class') == 'paper' and svg.find('{http://www.w3.org/2000/svg}style').text
" "$D/$name.svg"
    ok $? "--svg $name"
    "$RADAR" report -h | grep -q -- " $name[, ]"
    ok $? "the help lists $name"
done
accepted "report to standard output" report "$D/rows" -o - --quiet
cmp -s "$D/out" "$D/page.html"
ok $? "is the same page"
program=$(realpath "$RADAR")
(cd "$D" && "$program" report "$D/rows" --quiet) && cmp -s "$D/report.html" "$D/page.html"
ok $? "without -o: report.html"

# Rows of one kind only; lines that are no rows; text that wants to be markup.
mkdir "$D/one" "$D/bad" "$D/none" "$D/file"
printf '%s\n' '{"attention":"radar","scorer":"</text><script>alert(1)</script>","preset":"","text":"\"><img src=x onerror=alert(1)>","length":4,"first":0,"command":"radar eval ppl && <b>","nll":[1,2],"bytes_per_step":7}' \
    '{"attention":"dense","scorer":"sketch","text":"\"><img src=x onerror=alert(1)>","length":4,"first":0,"nll":[1,1]}' >"$D/one/ppl.jsonl"
accepted "report of text that wants to be markup" report "$D/one" -o "$D/one.html" --quiet
python3 - "$D/one.html" <<'P' 2>"$D/err"
import re, sys, xml.etree.ElementTree as xml
page = open(sys.argv[1], encoding="utf-8").read()
assert "<script" not in page and "<img" not in page and "<b>" not in page
drawn = [xml.fromstring(text) for text in re.findall(r"<svg .*?</svg>", page, re.S)]
assert len(drawn) == 2 and any("<script>" in (one.text or "") for svg in drawn for one in svg.iter())
assert page.count("Not here: ") == 18, page.count("Not here: ")
assert "radar eval needle" in page
P
status=$?
ok $status "it stays text; what has no rows names its command"
[ $status = 0 ] || show
{ cat "$D/one/ppl.jsonl"; echo '{"half": '; echo '[]'; printf '{"unfinished":1'; } >"$D/bad/ppl.jsonl"
try "$RADAR" report "$D/bad" -o "$D/bad.html"
[ "$code" = 0 ] && [ "$(grep -c 'bad/ppl.jsonl:[345]: left out: no JSON object' "$D/err")" = 3 ]
ok $? "lines that are no rows are named and left out"
grep -q '3 lines were no rows' "$D/bad.html"
ok $? "the page says so"

refused "no folder named" 64 'radar report DIR' report
refused "two folders" 64 "unexpected" report "$D/rows" "$D/one"
refused "no such folder" 66 'No such file' report "$D/missing" -o "$D/x.html"
refused "a file for a folder" 66 'not a folder' report "$D/page.html" -o "$D/x.html"
refused "a folder without rows" 66 'no rows in it' report "$D/none" -o "$D/x.html"
mkdir "$D/file/ppl.jsonl"
refused "a folder for a file" 65 'not a file of rows' report "$D/file" -o "$D/x.html"
rmdir "$D/file/ppl.jsonl" && mkfifo "$D/file/ppl.jsonl"
refused "a pipe for a file" 65 'not a file of rows' report "$D/file" -o "$D/x.html"
refused "no rows for a picture" 66 'radar eval needle' report "$D/one" --svg needle -o "$D/x.svg"
refused "no such picture" 64 'use one of loss-budget' report "$D/rows" --svg pie
refused "a place that is not there" 73 'cannot be created' report "$D/rows" -o "$D/no/such/page.html"
refused "a folder for the page" 73 'cannot be created' report "$D/rows" -o "$D/none"
refused "a full disk" 74 '/dev/full: write failed' report "$D/rows" -o /dev/full
[ ! -e "$D/x.html" ] && [ -c /dev/full ] && [ -z "$(find "$D" -name '*.part')" ]
ok $? "what failed leaves nothing behind"
(ulimit -f 100 && exec "$RADAR" report "$D/rows" -o "$D/page2.html" --quiet 2>"$D/err")
[ $? = 74 ] && [ ! -e "$D/page2.html" ] && [ -z "$(find "$D" -name '*.part')" ]
ok $? "a file at its size limit is taken away again (74)"
done_testing
