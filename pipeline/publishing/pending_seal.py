"""Segments that a run has written since the last seal, named under a hash of the key before they are written.

A run that is killed leaves segments that no seal covers, and those of sealed units that it made again say otherwise of
them, as a forged segment would. By this file the next run with the key knows its own and seals them, and `verify` can
say what they are. It goes when the data set is sealed.
"""

from pipeline.publishing.seal import PENDING, is_signed, parse_seal, signed
from pipeline.shards.output.store import Store
from pipeline.watermark_key import key_id
from schemas.seal import Seal

PURPOSE = "pending seal/1"


class PendingSeal:
    """The segments of this run, and of those with this key since the last seal; without a key no file is written.

    The file is read when it is first needed, once the output's lease is taken.
    """

    def __init__(self, store: Store, key: bytes | None) -> None:
        self._store, self._key = store, key
        self._segments: set[str] | None = None

    @property
    def segments(self) -> set[str]:
        """Their paths; the set grows."""
        if self._segments is None:
            self._segments = {*pending_segments(self._store, self._key)} if self._key is not None else set()
        return self._segments

    def add(self, path: str) -> None:
        """Name a segment that is about to be written."""
        self.segments.add(path)
        if self._key is not None:
            seal = Seal(key_id=key_id(self._key), files=dict.fromkeys(sorted(self.segments), ""))
            self._store.write(PENDING, signed(self._key, seal, PURPOSE).model_dump_json(indent=1).encode())

    def remove(self) -> None:
        """Remove the file; for after the seal."""
        if self._key is not None:
            self._store.remove(PENDING)


def pending_segments(store: Store, key: bytes) -> frozenset[str]:
    """Return the segments that runs with this key have written since the last seal.

    Empty where there is no such file, or where it was not made with this key.
    """
    try:
        seal = parse_seal(store.read(PENDING))
    except (FileNotFoundError, ValueError):
        return frozenset()
    return frozenset(seal.files) if is_signed(key, seal, PURPOSE) else frozenset()
