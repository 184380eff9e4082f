"""Watermarks in a run: the payload of every sample written into its pixels, and read back from its encoded bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.contracts import Pixels
from pipeline.watermark.payload import keyed_digest, payload
from pipeline.watermark_key import key_id

UNMARKABLE = "unmarkable"
"""The reason of an image that cannot carry a mark: too small, of one colour, or lost in encoding."""


class Watermarker:
    """Marks images of any sizes with the key of a run. Batched by size; an image's bytes do not depend on its batch."""

    def __init__(self, key: bytes, scheme: str, psnr_db: float, device: str) -> None:
        from pipeline.watermark.stdm import Stdm

        self._key = key
        self._scheme = scheme
        self._key_id = key_id(key)
        self._stdm = Stdm(key, psnr_db, device)

    def embed(self, images: Sequence[Pixels], samples: Sequence[str]) -> tuple[list[Pixels], list[float | None]]:
        """Return the marked images, and the PSNR each was marked at in dB; None for one that cannot be marked."""
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
        """Read images back as they will be stored; return the `watermarks` column: none where `levels` has None."""
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
