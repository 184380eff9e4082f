#!/usr/bin/env bash
# pyarrow 26.0.1 (seen 2026-11-28).
#
# Captions are put together from columns ("red long coat") with `binary_join_element_wise(..., null_handling="skip")`. Where
# all parts of a row are null, no empty text comes out but no element at all: the result is shorter. An array or a table
# says so when it is used beside others; a scan of a dataset does not: `Dataset.to_table(columns={...})` returns a table
# of as many rows as the first column has, in which the captions stand one row too early from there on, and at the end
# one is missing. `num_rows` is right, and only `validate` complains.
# Who is hurt: whoever trains on text and image. The kernel alone is known (narwhals-dev/narwhals, issue 3965); the scan
# is what hides it. Remedy: join one part that is never null, or `null_handling="replace"` and trim.
#
# Output seen:
#   3 rows; labels ['coat', 'bag', 'boot']; captions ['red long', 'black']
#   validate: ArrowInvalid
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

rows = pa.table({
    "label": ["coat", "bag", "boot"], "colour": ["red", None, "black"], "cut": pa.array(["long", None, None], pa.string()),
})
caption = pc.binary_join_element_wise(ds.field("colour"), ds.field("cut"), pa.scalar(" "), null_handling="skip")
table = ds.dataset(rows).to_table(columns={"label": ds.field("label"), "caption": caption})
labels, captions = (column.to_pylist() for column in table.columns)
print(f"{table.num_rows} rows; labels {labels}; captions {captions}")
try:
    table.validate()
    said = "nothing"
except pa.ArrowInvalid as error:
    said = type(error).__name__
print(f"validate: {said}")
assert table.num_rows == 3 and labels == ["coat", "bag", "boot"] and captions == ["red long", "black"]
assert said == "ArrowInvalid"
PY
