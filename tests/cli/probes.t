#!/bin/bash
# eval recall, calibrate, stats and bound: what cannot be looked at is refused in one line; attention that is not finite is named by
# position and layer.
. tests/cli/cli.sh
awk 'BEGIN { printf "["; for (i = 0; i < 400; i++) printf "%s%d", i ? "," : "", i * 37 % 128; print "]" }' >"$D/ids.json"
tiny=(-m "$TINY" --ids "$D/ids.json" --window 32 --quiet)

refused "text shorter than the tail" 65 'the text has 400 tokens, --tail 400' eval recall "${tiny[@]}" --tail 400
refused "no row to look at" 64 '--every 1000: no multiple' eval recall "${tiny[@]}" --every 1000
refused "layer that is not there" 64 'layers 0 to 1' eval recall "${tiny[@]}" --layer 2
refused "head that is not there" 64 'heads 0 to 3' eval stats "${tiny[@]}" --head 4
refused "nothing to calibrate: dense" 65 'nothing to calibrate' eval calibrate "${tiny[@]}" --attention dense
refused "nothing to calibrate: a context below the break-even" 65 'nothing to calibrate at 400' eval calibrate "${tiny[@]}"
refused "bound: too little before the queries" 65 '128 are needed' eval bound "${tiny[@]}" --length 120
accepted "recall" eval recall "${tiny[@]}" --dense-below 0 --segments 2 --tail 40 --json
python3 - "$D/out" <<'PY'
import json, sys
row = json.load(open(sys.argv[1]))["rows"][0]
assert row["positions"] == [360, 399] and row["rows"] == 10 and row["rows_scored"] == 10
assert row["keep"] == 2 and row["list_tokens"] == 32 and 32 <= row["union_tokens"] <= 64
assert row["list_mass"] <= row["list_mass_best"] + 1e-6 and row["list_mass_best"] <= row["mass_best"] + 1e-6
grid = row["layer_head"]["recall"]
assert len(grid) == 2 and all(len(heads) == 4 for heads in grid)
mean = sum(map(sum, grid)) / 8
assert abs(mean - row["recall_mean"]) < 1e-5, (mean, row["recall_mean"])
heat = row["heat"]
assert heat["positions"] == list(range(360, 400, 4)) and heat["segment"] == 16
for mass, chosen, always in zip(heat["mass"], heat["chosen"], heat["always"]):
    assert len(chosen) == 2 and max(chosen) < len(mass) and abs(sum(mass) + always - 1) < 1e-4
PY
ok $? "recall: its arrays agree with its figures"

# A NaN in a norm of layer 1: its keys and queries, so everything after it.
cp -r "$TINY" "$D/nan"
python3 - "$D/nan/model.safetensors" <<'PY'
import json, struct, sys
raw = bytearray(open(sys.argv[1], "rb").read())
size = struct.unpack("<Q", raw[:8])[0]
begin = json.loads(raw[8:8 + size])["model.layers.1.input_layernorm.weight"]["data_offsets"][0]
raw[8 + size + begin:8 + size + begin + 4] = struct.pack("<f", float("nan"))
open(sys.argv[1], "wb").write(raw)
PY
refused "attention that is not finite" 65 'position 0: values that are not finite after layer 1' eval recall -m "$D/nan" --ids "$D/ids.json" --tail 64 --quiet
done_testing
