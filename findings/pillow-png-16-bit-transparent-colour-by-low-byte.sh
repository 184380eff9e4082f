#!/usr/bin/env bash
# Pillow 13.0.0, numpy 2.4.6 (seen 2026-11-27).
#
# A PNG of 16 bits a channel may name one transparent colour (chunk tRNS). Pillow keeps that colour as 16-bit numbers,
# reads the pixels as their high bytes, and compares these with the low bytes of the colour when it converts to RGBA. So
# the transparent colour 0x1234 is opaque, while 0x34xx, which the file does not name, is transparent.
# Who is hurt: cut-outs of 16-bit renderers and microscopes get their background back, and holes elsewhere. Remedy:
# where the file has 16 bits, divide `info["transparency"]` by 257 (or shift by 8) before `convert("RGBA")`.
#
# Output seen:
#   transparent colour 4660 = 0x1234: alpha of 0x1234 is 255, alpha of 0x3400 is 0; shifted by 8: 0 and 255
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import io
import struct
import zlib

import numpy as np
from PIL import Image


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(colours, transparent):
    """Return a PNG of one row of RGB with 16 bits a channel."""
    row = b"\0" + np.array(colours, dtype=">u2").tobytes()
    header = struct.pack(">IIBBBBB", len(colours), 1, 16, 2, 0, 0, 0)
    parts = {b"IHDR": header, b"tRNS": struct.pack(">3H", *transparent), b"IDAT": zlib.compress(row), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts.items())


COLOUR = (0x1234,) * 3
image = Image.open(io.BytesIO(png([COLOUR, (0x3400,) * 3], COLOUR)))
kept = image.info["transparency"]
found = np.asarray(image.convert("RGBA"))[0, :, 3].tolist()
image.info["transparency"] = tuple(value >> 8 for value in kept)
shifted = np.asarray(image.convert("RGBA"))[0, :, 3].tolist()
print(
    f"transparent colour {kept[0]} = {kept[0]:#x}: alpha of 0x1234 is {found[0]}, alpha of 0x3400 is {found[1]}; "
    f"shifted by 8: {shifted[0]} and {shifted[1]}"
)
assert (image.mode, kept) == ("RGB", COLOUR)
assert (found, shifted) == ([255, 0], [0, 255])
PY
