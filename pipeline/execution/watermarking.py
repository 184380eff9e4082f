"""Watermarks of a unit: each sample's payload is embedded in its pixels, and read back from the encoded image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.contracts import Pixels
from pipeline.watermark.payload import keyed_digest, payload
from pipeline.watermark_key import key_id

UNMARKABLE = "unmarkable"
"""Reason of rejection: the image is too small or of one colour, or encoding has destroyed the mark."""


class Watermarker:
    """Embeds and reads marks with the key of a run, in batches of one size that change no byte of an image."""

    def __init__(self, key: bytes, scheme: str, psnr_db: float, device: str) -> None:
        from pipeline.watermark.stdm import Stdm

        self._key = key
        self._scheme = scheme
        self._key_id = key_id(key)
        self._stdm = Stdm(key, psnr_db, device)

    def embed(self, images: Sequence[Pixels], samples: Sequence[str]) -> tuple[list[Pixels], list[float | None]]:
        """Return the images with their marks, and the PSNR of each in dB; None for one that cannot be marked."""
        marked, reached = list(images), list[float | None]([None] * len(images))
        for rows in _by_shape(images):
            done = self._stdm.embed(np.stack([images[i] for i in rows]), [payload(self._key, samples[i]) for i in rows])
            for place, row in enumerate(rows):
                if place not in done.unmarkable:
                    marked[row] = done.images[place]
                    reached[row] = float(done.psnr_db[place])
        return marked, reached

    def records(
        self, images: Sequence[Pixels], samples: Sequence[str], levels: Sequence[float | None]
    ) -> list[list[dict[str, Any]]]:
        """Read marks from images as they are stored; return the `watermarks` column, empty where `levels` has None."""
        found: list[list[dict[str, Any]]] = [[] for _ in images]
        marked = [row for row, level in enumerate(levels) if level is not None]
        for places in _by_shape([images[row] for row in marked]):
            readings = self._stdm.read(np.stack([images[marked[place]] for place in places]))
            for place, reading in zip(places, readings, strict=True):
                row = marked[place]
                word = payload(self._key, samples[row])
                record = {"scheme": self._scheme, "key_id": self._key_id, "payload": keyed_digest(self._key, word)}
                found[row] = [{**record, "psnr_db": levels[row], "verified": reading.payload == word}]
        return found


def _by_shape(images: Sequence[Pixels]) -> list[list[int]]:
    found: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        found.setdefault(image.shape, []).append(index)
    return list(found.values())
