"""Makes the embedded Fashion-MNIST shards: the first 200 training images of each class, in file order.

    python -m jobs.assets.fashion_mnist --source DIR [--out DIR]

DIR holds the four published `*-ubyte.gz` files (the Debian package `dataset-fashion-mnist` installs them).
"""

import argparse
import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.errors import InputError
from pipeline.model_files.references import ASSETS

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
PER_CLASS = 200
SHARDS = 2
ROW_GROUP = 256  # rows

Bytes = npt.NDArray[np.uint8]

FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": list(CLASSES), "_type": "ClassLabel"},
    "id": {"dtype": "string", "_type": "Value"},
}
SCHEMA = pa.schema(
    [
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
        pa.field("label", pa.int64()),
        pa.field("id", pa.string()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the shards and print their sha256."""
    parser = argparse.ArgumentParser(prog="python -m jobs.assets.fashion_mnist", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="the published files")
    parser.add_argument("--out", type=Path, default=ASSETS / "fashion-mnist", metavar="DIR")
    options = parser.parse_args(arguments)
    for path in write_shards(options.source, options.out):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    return 0


def write_shards(source: Path, out: Path, per_class: int = PER_CLASS) -> list[Path]:
    """Write the shards into `out`; return their paths.

    Raises:
        InputError: a published file is missing or not what its name says, or a class has too few images.
    """
    images = read_idx(source / "train-images-idx3-ubyte.gz", dimensions=3)
    labels = read_idx(source / "train-labels-idx1-ubyte.gz", dimensions=1)
    chosen = first_of_each_class(labels, per_class)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for shard, indexes in enumerate(np.array_split(chosen, SHARDS)):
        path = out / f"train-{shard:05d}-of-{SHARDS:05d}.parquet"
        table = pa.Table.from_pylist(list(_rows(images, labels, indexes)), schema=SCHEMA)
        # PNG does not compress again; the other columns are a few kilobytes.
        pq.write_table(table, path, row_group_size=ROW_GROUP, compression="none")
        paths.append(path)
    return paths


def read_idx(path: Path, dimensions: int) -> Bytes:
    """Return an IDX file of unsigned bytes: big-endian int32 magic and sizes, then the values.

    Raises:
        InputError: it is missing, or its header or its length is another.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    header = np.frombuffer(data[: 4 + 4 * dimensions], dtype=">i4")
    if len(header) != 1 + dimensions or header[0] != 0x0800 + dimensions:
        raise InputError(f"{path}: not an IDX file of unsigned bytes in {dimensions} dimensions")
    values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions)
    if values.size != header[1:].prod():
        raise InputError(f"{path}: its header declares {header[1:].prod()} bytes, it holds {values.size}")
    return values.reshape(header[1:])


def first_of_each_class(labels: Bytes, per_class: int) -> npt.NDArray[np.int64]:
    """Return the indexes of the first `per_class` images of each class, ascending.

    Raises:
        InputError: a class has fewer.
    """
    found = [np.flatnonzero(labels == label)[:per_class] for label in range(len(CLASSES))]
    for name, indexes in zip(CLASSES, found, strict=True):
        if len(indexes) < per_class:
            raise InputError(f"class {name!r} has {len(indexes)} images, {per_class} are asked for")
    return np.sort(np.concatenate(found))


def _rows(images: Bytes, labels: Bytes, indexes: npt.NDArray[np.int64]) -> Iterator[dict[str, object]]:
    for index in indexes.tolist():
        name = f"train-{index:05d}"
        yield {"image": {"bytes": png(images[index]), "path": f"{name}.png"}, "label": int(labels[index]), "id": name}


def png(pixels: Bytes) -> bytes:
    """Return grey pixels [H, W] as the smallest PNG that Pillow makes."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
