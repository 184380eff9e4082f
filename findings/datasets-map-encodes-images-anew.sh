#!/usr/bin/env bash
# datasets 5.2.0, Pillow 13.0.0 (seen 2026-11-27).
#
# A `map` whose function only reads a decoded image (`row["image"].width`), and returns another column, stores every
# JPEG again, at Pillow's quality 75. A `map` that does not touch the image, and a `filter` that does, keep the bytes.
# Who is hurt: checksums and links by sha256 no longer hold, and watermarks are weakened, though nobody asked for new
# images. Remedy: `cast_column("image", Image(decode=False))` before, or `input_columns` without the image.
#
# Output seen:
#   stored 2359, after a map that reads the image 1432, after one that does not 2359, after a filter that reads it 2359
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
export HF_HOME="$folder/home" HF_DATASETS_DISABLE_PROGRESS_BARS=1
"$folder/venv/bin/python" - <<'PY'
import io

import datasets
import numpy as np
from PIL import Image

colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
out = io.BytesIO()
Image.fromarray(colours).resize((64, 64)).save(out, "JPEG", quality=95)
stored = out.getvalue()
features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
rows = datasets.Dataset.from_dict({"image": [{"bytes": stored, "path": None}], "label": [0]}, features=features)


def held(some):
    return some.cast_column("image", datasets.Image(decode=False))[0]["image"]["bytes"]


reads = held(rows.map(lambda row: {"width": row["image"].width}))
leaves = held(rows.map(lambda row: {"twice": 2 * row["label"]}))
filtered = held(rows.filter(lambda row: row["image"].width == 64))
print(
    f"stored {len(stored)}, after a map that reads the image {len(reads)}, after one that does not {len(leaves)}, "
    f"after a filter that reads it {len(filtered)}"
)
assert held(rows) == leaves == filtered == stored
assert reads != stored and len(reads) < 0.75 * len(stored)
assert Image.open(io.BytesIO(reads)).format == "JPEG"
PY
