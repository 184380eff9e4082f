#!/usr/bin/env bash
# simplejpeg 1.9.0, pillow 13.0.0, numpy 2.4.6 (seen 2026-11-28).
#
# `simplejpeg.encode_jpeg(..., fastdct=False)` asks for the accurate DCT, and its documentation says that this is the
# default. Below quality 96 the fast one is taken all the same: both values of the argument give equal bytes, which are
# not those of libjpeg's accurate DCT. From 96 on they are, also with `fastdct=True`.
# Who is hurt: whoever writes training images with it for its speed: at one and the same quality an image is worse than
# Pillow's, the more so the higher the quality below 96, and no setting brings it back. Decoding is not concerned.
# Remedy: encode by another binding of libjpeg-turbo (imagecodecs, Pillow) and compare one image with Pillow's.
#
# Output seen (a smooth picture; PSNR of the decoded image against the encoded pixels):
#   quality 75: fast is accurate True, as Pillow False, 42.78 dB, Pillow 42.87 dB
#   quality 90: fast is accurate True, as Pillow False, 46.42 dB, Pillow 46.77 dB
#   quality 95: fast is accurate True, as Pillow False, 47.66 dB, Pillow 48.49 dB
#   quality 96: fast is accurate True, as Pillow True, 48.91 dB, Pillow 48.91 dB
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet simplejpeg==1.9.0 pillow==13.0.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import io

import numpy as np
import simplejpeg
from PIL import Image

across, down = np.meshgrid(np.linspace(0, 1, 256), np.linspace(0, 1, 256))
waves = [128 + 100 * np.sin(9 * across + k) * np.cos(7 * down * (k + 1)) for k in range(3)]
pixels = np.ascontiguousarray(np.clip(np.stack(waves, 2), 0, 255).astype(np.uint8))


def psnr(data):
    decoded = np.asarray(Image.open(io.BytesIO(data)), np.float64)
    return 10 * np.log10(255**2 / np.mean((decoded - pixels) ** 2))


for quality in (75, 90, 95, 96):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling="4:2:0")
    accurate, fast = (
        simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420", fastdct=asked)
        for asked in (False, True)
    )
    same, as_pillow = accurate == fast, accurate == out.getvalue()
    print(
        f"quality {quality}: fast is accurate {same}, as Pillow {as_pillow}, "
        f"{psnr(accurate):.2f} dB, Pillow {psnr(out.getvalue()):.2f} dB"
    )
    assert same and as_pillow == (quality >= 96)
    assert quality >= 96 or psnr(accurate) < psnr(out.getvalue()) - 0.05
PY
