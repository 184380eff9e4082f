#!/usr/bin/env bash
# Pillow 13.0.0 with LittleCMS 2.19, numpy 2.4.6 (seen 2026-11-27).
#
# `ImageCms.buildTransform` of 8-bit grey through a linear profile (gamma 1.0, as scanners and renderers write) to sRGB
# loses the shadows: level 1 becomes 6 where the curve says 12.7, level 2 becomes 12 where it says 21.7. LittleCMS
# replaces the curve by a table of few samples and draws straight lines between them. `profileToProfile` does the same.
# Who is hurt: whoever converts linear grey images by their profile; dark detail is up to 10 levels too dark, and
# nothing warns. Remedy: `flags=ImageCms.Flags.NOOPTIMIZE`, with which every level is within one half.
#
# Output seen:
#   levels 1, 2, 3 are 6, 12, 19 and should be 12.7, 21.7, 28.2; worst 9.7; with NOOPTIMIZE 13, 22, 28; worst 0.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import io
import struct

import numpy as np
from PIL import Image, ImageCms

D50 = struct.pack(">3i", 63190, 65536, 54061)


def linear_grey():
    """Return an ICC profile of version 4: grey, and an empty `curv`, which stands for gamma 1.0."""
    words = b"mluc" + struct.pack(">6I", 0, 1, 12, 0x656E5553, 8, 28) + "grey".encode("utf-16-be")
    tags = {b"desc": words, b"cprt": words, b"wtpt": b"XYZ " + bytes(4) + D50, b"kTRC": b"curv" + bytes(8)}
    index, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        index += name + struct.pack(">II", start + len(body), len(data))
        body += data
    header = struct.pack(">I4xI", start + len(body), 0x04200000) + b"mntrGRAYXYZ "
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + D50
    return header.ljust(128, b"\0") + index + body


grey = ImageCms.ImageCmsProfile(io.BytesIO(linear_grey()))
levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
light = np.arange(256) / 255
right = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
found = []
for flags in (0, ImageCms.Flags.NOOPTIMIZE):
    transform = ImageCms.buildTransform(grey, ImageCms.createProfile("sRGB"), "L", "RGB", flags=flags)
    found.append(np.asarray(transform.apply(levels))[0, :, 0].astype(float))
worst = [abs(values - right).max() for values in found]
print(
    "levels 1, 2, 3 are {:.0f}, {:.0f}, {:.0f}".format(*found[0][1:4]),
    "and should be {:.1f}, {:.1f}, {:.1f}; worst {:.1f};".format(*right[1:4], worst[0]),
    "with NOOPTIMIZE {:.0f}, {:.0f}, {:.0f}; worst {:.1f}".format(*found[1][1:4], worst[1]),
)
assert worst[0] > 9 and worst[1] < 0.6
at_once = ImageCms.profileToProfile(levels, grey, ImageCms.createProfile("sRGB"), outputMode="RGB")
assert (np.asarray(at_once)[0, :, 0] == found[0]).all()
PY
