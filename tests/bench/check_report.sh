#!/bin/bash
# check_report.sh [RADAR]: the page of `radar report` in headless Chromium, on a phone (390 x 844) and a desk (1280 x 900), light
# and dark: nothing wider than the screen, no text cut, crossed by another or below 11 pixels, contrast of text at least 4.5:1.
# Screenshots stay in build/report.
set -u
cd "$(dirname "$0")/../.." || exit 1
radar=${1:-build/radar} out=build/report
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    { echo "no Chromium here: the page is not looked at (Debian: apt-get install chromium)"; exit 0; }
rm -rf $out && mkdir -p $out || exit 1
python3 tests/cli/report_rows.py $out/rows || exit 1
# The same rows with names, texts and commands longer than any screen, in letters of every width.
python3 - $out <<'P' || exit 1
import glob, json, os, sys
out = sys.argv[1]
os.makedirs(out + "/long")
for path in glob.glob(out + "/rows/*.jsonl"):
    with open(path) as rows, open(path.replace("/rows/", "/long/"), "w") as more:
        for line in rows:
            row = json.loads(line)
            for key, pad in (("scorer", "W"), ("attention", "m"), ("text", "漢"), ("model", "i"), ("command", "x")):
                row[key] = row[key] + pad * 200 if row[key] not in ("dense", "radar") else row[key]
            more.write(json.dumps(row) + "\n")
P
cat >$out/look.html <<'E'
<script>
addEventListener("load", () => {
  const bad = [], where = e => (e.closest("svg") ? e.closest("svg").getAttribute("aria-label") + ": " : "") + e.textContent.slice(0, 40);
  const rgb = c => c.match(/[\d.]+/g).map(Number);
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const paper = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3]) return c; } return [255, 255, 255]; };
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) bad.push(`page is ${root.scrollWidth} wide on ${innerWidth}`);
  let texts = 0;
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect(), scale = frame.width / svg.viewBox.baseVal.width, boxes = [];
    if (frame.right > innerWidth + .5) bad.push("wider than the screen: " + svg.getAttribute("aria-label"));
    for (const t of svg.querySelectorAll("text")) {
      const b = t.getBoundingClientRect(); texts++;
      if (b.left < frame.left - .5 || b.right > frame.right + .5 || b.top < frame.top - .5 || b.bottom > frame.bottom + .5) bad.push("cut: " + where(t));
      if (t.getAttribute("font-size") * scale < 11) bad.push("small: " + where(t));
      if (!t.style.fill && contrast(rgb(getComputedStyle(t).fill), paper(svg)) < 4.5) bad.push("faint: " + where(t));
      for (const [o, other] of boxes)
        if (b.left < o.right - 1 && o.left < b.right - 1 && b.top < o.bottom - 4 && o.top < b.bottom - 4) bad.push("crossed: " + where(t) + " / " + other);
      boxes.push([b, t.textContent.slice(0, 40)]);
    }
  }
  for (const e of document.querySelectorAll("h1,h2,p,th,td,code,li,span")) {
    const box = e.closest(".scroll"), right = e.getBoundingClientRect().right; texts++;
    if (right > (box ? box.getBoundingClientRect().left + box.scrollWidth + 2 : innerWidth + .5)) bad.push("cut: " + where(e));
    if (contrast(rgb(getComputedStyle(e).color), paper(e)) < 4.5) bad.push("faint: " + where(e));
    if (parseFloat(getComputedStyle(e).fontSize) < 11) bad.push("small: " + where(e));
  }
  const scheme = matchMedia("(prefers-color-scheme:dark)").matches ? "dark" : "light";
  parent.postMessage(`${innerWidth} px, ${scheme}: ${texts} texts, ${bad.length} faults\n` + bad.slice(0, 20).join("\n"), "*");
});
</script>
E
failed=0
# A browser's own window is not narrower than 500 pixels: the page is looked at in a frame.
frame() { # frame WIDTH HEIGHT PAGE
    printf '<meta name="color-scheme" content="light dark"><script>%s</script>\n<iframe width="%s" height="%s" style="border:0" src="%s"></iframe>' \
        'onmessage = e => { const p = document.body.appendChild(document.createElement("pre")); p.id = "found"; p.textContent = e.data; }' "$@"
}
browse() { # browse WIDTH HEIGHT SCHEME OPTIONS...
    local width=$1 height=$2 preferred=1
    [ "$3" = light ] || preferred=0
    shift 3
    timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --window-size="$width,$height" \
        --blink-settings=preferredColorScheme=$preferred "$@" 2>/dev/null
}
for rows in rows long; do
    "$radar" report $out/$rows -o $out/$rows.html --quiet || exit 1
    sed '/^<\/main>$/r '$out/look.html $out/$rows.html >$out/$rows-look.html
    for size in "390 844 phone" "1280 900 desk"; do
        read -r width height name <<<"$size"
        for scheme in light dark; do
            frame "$width" "$height" $rows-look.html >$out/frame.html
            found=$(browse 1400 1000 $scheme --virtual-time-budget=5000 --dump-dom "file://$PWD/$out/frame.html" |
                sed -n '/<pre id="found">/,/<\/pre>/p' | sed 's/<[^>]*>//g')
            echo "$rows, $name, $found"
            [[ $found == "$width px, $scheme: "[1-9]*" texts, 0 faults"* ]] || failed=1
            browse "$width" "$height" $scheme --screenshot="$PWD/$out/$rows-$name-$scheme.png" "file://$PWD/$out/$rows.html"
        done
    done
done
[ $failed = 0 ] && echo "the page is well on both screens, light and dark"
exit $failed
