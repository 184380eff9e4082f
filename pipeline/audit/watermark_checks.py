"""Watermark checks: marks are read from stored images, and compared with the recorded ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.audit.verification import Verification
from pipeline.contracts import Pixels
from pipeline.errors import InputError
from pipeline.shards.output.store import Store
from pipeline.watermark.payload import is_clear, payload, stands_for
from pipeline.watermark_key import key_id
from schemas.manifest import Manifest


class WatermarkChecks:
    """Reads marks from stored images, and compares them with the payloads of their sample ids."""

    def __init__(self, key: bytes, psnr_db: float) -> None:
        from pipeline.watermark.stdm import Stdm

        self._key = key
        self._stdm = Stdm(key, psnr_db)

    def check(self, rows: list[dict[str, Any]], images: Mapping[str, Pixels], found: Verification) -> None:
        """Check the recorded marks of some rows against their images [H, W, C] uint8, by sample id."""
        by_shape: dict[tuple[int, ...], list[str]] = {}
        for row in rows:
            name = row["sample_id"]
            for mark in row["watermarks"]:
                recorded = str(mark["payload"])
                own = stands_for(self._key, recorded, payload(self._key, name))
                found.expect(own, f"sample {name}: the recorded payload is not that of its id")
                found.clear += own and is_clear(recorded)
                if mark["verified"] and name in images:
                    by_shape.setdefault(images[name].shape, []).append(name)
        for names in by_shape.values():
            readings = self._stdm.read(np.stack([images[name] for name in names]))
            for name, reading in zip(names, readings, strict=True):
                found.watermarks += 1
                found.expect(reading.payload == payload(self._key, name), f"sample {name}: its mark does not read back")


def checks_for(store: Store, manifest: Manifest, key: bytes | None, found: Verification) -> WatermarkChecks | None:
    """Return the checks of a data set's marks; None, and a note that says why, where they cannot be checked.

    Raises:
        InputError: the data set was marked with another key.
    """
    if manifest.watermark is None:
        found.notes.append("watermarks were not checked: the data set was made with `watermark: none`")
        return None
    if key is None:
        found.notes.append("watermarks were not checked: no key (--key-file or PALIMPSEST_KEY)")
        return None
    if key_id(key) != manifest.watermark["key_id"]:
        raise InputError(f"{store.uri}: marked with key {manifest.watermark['key_id']}, and this is key {key_id(key)}")
    return WatermarkChecks(key, manifest.watermark["psnr_db"])
