"""The shards and models of a bench, made once and kept in a temporary folder."""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jobs.bench.contestants.pillow_images import encode
from jobs.bench.contestants.task import Case, Models
from jobs.bench.synthetic_photographs import photograph
from pipeline.errors import InputError, RowError
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import find_shards
from pipeline.shards.images.codecs import decode
from pipeline.shards.links.linked_images import OWN_FOLDER
from pipeline.shards.reader import SourceRow, read_windows
from schemas.recipe import Columns

VERSION = 1  # of what this module and `synthetic_photographs` make
DISTINCT = 512  # images; repeated until there are rows enough
SHARDS = 8
ROW_GROUP = 256  # rows
CLASSES = [f"class {index}" for index in range(10)]
SCHEMA = pa.schema(
    [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64()), ("id", pa.string())],
    metadata={
        "huggingface": json.dumps(
            {
                "info": {
                    "features": {
                        "image": {"_type": "Image"},
                        "label": {"names": CLASSES, "_type": "ClassLabel"},
                        "id": {"dtype": "string", "_type": "Value"},
                    }
                }
            }
        )
    },
)
MAX_PIXELS = 50_000_000


def cache_root() -> Path:
    """Return the folder that inputs and models are kept in, a user's own."""
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir(), f"palimpsest-bench-{owner}")


def synthetic_shards(case: Case, rows: int) -> Path:
    """Return a folder of shards with `rows` JPEG images of the case's size."""
    distinct = min(DISTINCT, rows)

    def fill(folder: Path) -> None:
        images = [encode(photograph(seed, case.size_px)) for seed in range(distinct)]
        _write(folder, [(images[row % distinct], row % len(CLASSES), f"{row:06d}") for row in range(rows)])

    return cached_folder(["synthetic", VERSION, case.size_px, distinct, rows], fill)


def repeated_shards(folder: Path, times: int) -> Path:
    """Return a folder in which each shard of `folder` is there `times` times, as links to the same bytes."""

    def fill(made: Path) -> None:
        for path in sorted(folder.glob("*.parquet")):
            for turn in range(times):
                os.link(path, made / f"{path.stem}-{turn}.parquet")

    return cached_folder(["repeated", VERSION, folder.name, times], fill)


def given_shards(uri: str, rows: int) -> Path:
    """Return a folder of shards with the first `rows` usable images of a user's own, their bytes untouched.

    Labels count modulo ten (0 where there is none): no contestant looks at them.

    Raises:
        InputError: there are no shards, or no image that can be decoded.
    """
    base = str(Path.cwd())
    shards = find_shards(uri, base)

    def fill(folder: Path) -> None:
        found = [row for _, row in zip(range(rows), _usable(uri, base), strict=False)]
        if not found:
            raise InputError(f"{uri}: no image in it can be decoded")
        _write(folder, [(row.data or b"", _label(row), f"{index:06d}") for index, row in enumerate(found)])

    return cached_folder(["given", VERSION, [shard.digest for shard in shards], rows], fill)


def _usable(uri: str, base: str) -> Iterator[SourceRow]:
    shards = find_shards(uri, base)
    layout = read_layout(shards, Columns(), ())
    for shard in shards:
        for _, rows in read_windows(shard, layout, 0, shard.rows, 64, OWN_FOLDER):
            for row in rows:
                try:
                    decode(row.data or b"", MAX_PIXELS)
                except RowError:
                    continue
                yield row


def _label(row: SourceRow) -> int:
    return row.label % len(CLASSES) if isinstance(row.label, int) else 0


def reference_models(case: Case) -> Models:
    """Return the reference's two checkpoints with random weights, and a style image."""

    def fill(folder: Path) -> None:
        from jobs.bench.contestants.plain_adain import save_random

        save_random(folder)
        # 256 px is what the product resizes styles to: all contestants see the same statistics.
        Image.fromarray(photograph(DISTINCT, 256)).save(folder / "style.png")

    folder = cached_folder(["models", VERSION, case.operator], fill)
    return Models(*(str(folder / name) for name in ("vgg_normalised.pth", "decoder.pth", "style.png")))


def _write(folder: Path, rows: list[tuple[bytes, int, str]]) -> None:
    """Write rows of (JPEG, label, id) as shards of about equal size."""
    each = -(-len(rows) // SHARDS)
    for first in range(0, len(rows), each):
        records = [
            {"image": {"bytes": image, "path": None}, "label": label, "id": name}
            for image, label, name in rows[first : first + each]
        ]
        table = pa.Table.from_pylist(records, schema=SCHEMA)
        pq.write_table(
            table, folder / f"train-{first:06d}.parquet", row_group_size=ROW_GROUP, compression="none",
            use_dictionary=False,
        )  # fmt: skip


def cached_folder(key: list[object], fill: Callable[[Path], None]) -> Path:
    """Return the cached folder of `key`, filled by `fill` at first use; it gets its name once it is complete."""
    name = f"{key[0]}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"
    folder = cache_root() / name
    if not folder.exists():
        cache_root().mkdir(mode=0o700, parents=True, exist_ok=True)
        making = cache_root() / f".{uuid.uuid4().hex}"
        making.mkdir()
        try:
            fill(making)
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return folder
