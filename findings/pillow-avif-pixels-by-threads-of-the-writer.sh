#!/usr/bin/env bash
# Pillow 13.0.0 with libavif 1.4.2, numpy 2.4.6 (seen 2026-11-27).
#
# `Image.save(file, "AVIF")` encodes with as many threads as the process may use processors, and the encoder's decisions
# depend on whether that is one or more: the same image, at the same quality, gives another file and other pixels. Two,
# four and eight threads agree with each other, and the threads of the reader do not matter.
# Who is hurt: whoever compares checksums of a data set that was made again on another machine or in a container with
# one processor. Remedy: `save(..., max_threads=1)`, everywhere.
#
# Output seen:
#   1 thread 19730 bytes; 2, 4, 8 threads 19650 bytes; up to 9 grey levels apart; however many threads read: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import io

import numpy as np
from PIL import AvifImagePlugin, Image

colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
image = Image.fromarray(colours).resize((1024, 512))


def encoded(threads):
    out = io.BytesIO()
    image.save(out, "AVIF", quality=75, max_threads=threads)
    return out.getvalue()


def decoded(data, threads):
    AvifImagePlugin.DEFAULT_MAX_THREADS = threads
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


one, *more = (encoded(threads) for threads in (1, 2, 4, 8))
apart = abs(decoded(one, 1) - decoded(more[0], 1)).max()
readers = max(abs(decoded(data, 1) - decoded(data, threads)).max() for data in (one, more[0]) for threads in (2, 8))
print(
    f"1 thread {len(one)} bytes; 2, 4, 8 threads {len(more[0])} bytes; up to {apart} grey levels apart; "
    f"however many threads read: {readers}"
)
assert encoded(1) == one
assert one != more[0] and len(set(more)) == 1
assert apart > 2 and readers == 0
PY
