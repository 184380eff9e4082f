#!/usr/bin/env bash
# datasets 5.2.0, Pillow 13.0.0, pyarrow 26.0.1 (seen 2026-11-27).
#
# `load_dataset("imagefolder").to_parquet(file)` writes a row for every image, with its class, and no image: `bytes` is
# null and `path` is the absolute path on the machine that wrote it. Other ways of storing a data set do embed images.
# Who is hurt: whoever copies the Parquet file to a bucket or to a colleague; it opens, counts its rows, and shows
# nothing. Remedy: embed first, with `.with_format("arrow").map(embed_table_storage, batched=True)`.
#
# Output seen:
#   as it is: 0 of 4 rows hold bytes, 4 absolute paths; embedded first: 4 of 4 rows hold bytes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pillow==13.0.0 pyarrow==26.0.1
export HF_HOME="$folder/home" HF_DATASETS_DISABLE_PROGRESS_BARS=1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from pathlib import Path

import datasets
import pyarrow.parquet as pq
from datasets.table import embed_table_storage
from PIL import Image

for number in range(4):
    place = Path("pictures", ("cat", "dog")[number % 2], f"{number}.png")
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (number * 60, 0, 0)).save(place)
rows = datasets.load_dataset("imagefolder", data_dir="pictures", split="train")
rows.to_parquet("plain.parquet")
rows.with_format("arrow").map(embed_table_storage, batched=True).to_parquet("embedded.parquet")
plain, embedded = (pq.read_table(name).column("image").to_pylist() for name in ("plain.parquet", "embedded.parquet"))
count = [sum(image["bytes"] is not None for image in images) for images in (plain, embedded)]
far = sum(Path(image["path"]).is_absolute() for image in plain)
print(
    f"as it is: {count[0]} of {len(plain)} rows hold bytes, {far} absolute paths; "
    f"embedded first: {count[1]} of {len(embedded)} rows hold bytes"
)
assert (count, far) == ([0, 4], 4)
PY
