"""Fits the embedded distribution of styles to the embedded style images and to textures drawn by rule.

    python -m jobs.assets.adain_styles [--out FILE] [--model FILE]

writes `pipeline/assets/models/adain-styles.safetensors`, the same bytes again on the same machine: two minutes on one
core. It has to be made again where the encoder of `builtin:adain` changes; `style_randomization` refuses it until then.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from jobs.train.data.textures import FAMILIES, draw
from pipeline.contracts import Pixels
from pipeline.model_files.references import ASSETS
from pipeline.networks.pixel_tensors import rgb_unit_tensor
from pipeline.networks.style.adain import load_encoder, style_statistics
from pipeline.networks.style.style_distribution import StyleDistribution, encoder_sha256, fit_distribution
from pipeline.shards.images.codecs import decode, resize

OUT = ASSETS / "models" / "adain-styles.safetensors"
MODEL = ASSETS / "models" / "adain.safetensors"
SEED, SIZE_PX, RANK = 7, 128, 48
TEXTURES, CROPS = 50, 60
"""Drawn textures of each family, and crops of each style image."""
SHORTEST = 0.4  # of a style image's short side: a crop at its own scale, brought to SIZE_PX


def styles(textures: int, crops: int) -> Iterator[Pixels]:
    """Yield textures of every family, then square crops of every embedded style image: [128, 128, 3] uint8 each."""
    for place, family in enumerate(FAMILIES):
        for index in range(textures):
            yield draw(family, SEED * 1_000_000 + place * 10_000 + index, SIZE_PX)
    rng = np.random.default_rng(SEED)
    for path in sorted((ASSETS / "styles").glob("*.jpg")):
        image = decode(path.read_bytes(), 10**8)
        for _ in range(crops):
            side = round(min(image.shape[:2]) * rng.uniform(SHORTEST, 1))
            top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
            yield resize(image[top : top + side, left : left + side], SIZE_PX, SIZE_PX)


def fitted(model: Path = MODEL, textures: int = TEXTURES, crops: int = CROPS, rank: int = RANK) -> StyleDistribution:
    """Return the distribution of those styles in the encoder of `model`."""
    encoder = load_encoder(model)
    with torch.inference_mode():
        found = [style_statistics(encoder, rgb_unit_tensor(pixels[None])) for pixels in styles(textures, crops)]
    return fit_distribution(found, rank, encoder_sha256(encoder))


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Fit the embedded distribution of styles.")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    torch.set_num_threads(1)
    distribution = fitted(options.model)
    options.out.write_bytes(distribution.to_bytes())
    print(f"{options.out}: {distribution.images} images, rank {distribution.rank}")


if __name__ == "__main__":
    main()
