"""The task of a contestant of `bench light` and its like, as JSON on its command line."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One bench. Images are RGB, `size_px` square, JPEG 90 in, and out where `encoding` says nothing else.

    `times`: each shard is there so often under other names. `originals`: the product stores the source rows as well.
    """

    operator: str  # light: mirrored left to right; adain: stylised
    rows: int
    size_px: int
    times: int = 1
    encoding: str = "jpeg"
    originals: bool = False


CASES = {
    "light": Case("light", rows=16_384, size_px=256),
    "light-long": Case("light", rows=16_384, size_px=256, times=8),
    "light-png": Case("light", rows=4_096, size_px=256, encoding="png", originals=True),
    "adain": Case("adain", rows=1_024, size_px=128),
}
WORKERS = 2
"""Processes that do the work, one thread each; the whole bench is held to as many cores."""
BATCH = 32  # images a call of the peers, as scripts have it; the product takes what its operator says
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Models:
    """What `adain` needs, as files: the reference's two checkpoints, and one style image."""

    encoder: str
    decoder: str
    style: str


@dataclass(frozen=True)
class Task:
    """One contestant's work: read every shard in `input`, write every image into `output` (a folder, not there yet)."""

    operator: str
    input: str
    output: str
    size_px: int
    models: Models | None = None
    workers: int = WORKERS
    batch: int = BATCH
    executor: str = "ray"  # of the product alone; `inline` in tests
    dtype: str = "float32"  # of the product alone: what its networks compute in
    encoding: str = "jpeg"
    originals: bool = False  # of the product alone: it stores the source rows as well

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        values = json.loads(text)
        models = values.pop("models")
        return cls(**values, models=None if models is None else Models(**models))

    def shards(self) -> list[str]:
        """Return the paths of the input's shards, sorted."""
        return sorted(str(path) for path in Path(self.input).glob("*.parquet"))
