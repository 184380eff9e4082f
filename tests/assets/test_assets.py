"""The embedded files: what their README says of them is so."""

import gzip
import hashlib
import json
import re
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.assets.fashion_mnist import CLASSES, first_of_each_class, read_idx, write_shards
from pipeline.errors import InputError
from pipeline.model_files.references import ASSETS
from pipeline.shards.images.codecs import decode

FOLDER = ASSETS / "fashion-mnist"
SHARDS = sorted(FOLDER.glob("*.parquet"))
MAX_BYTES = 25_000_000


def test_all_assets_together_are_small() -> None:
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < MAX_BYTES


def test_shards_have_the_sha256_that_is_stated() -> None:
    readme = (FOLDER / "README.md").read_text()
    stated = dict(re.findall(r"`(train-[\w-]+\.parquet)` \| [\d,]+ \| `([0-9a-f]{64})`", readme))
    assert stated == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in SHARDS}
    assert len(stated) == 2


def test_shards_hold_200_decodable_images_of_each_class() -> None:
    rows = [row for path in SHARDS for row in pq.read_table(path).to_pylist()]
    assert Counter(row["label"] for row in rows) == dict.fromkeys(range(10), 200)
    names = [row["id"] for row in rows]
    assert len(set(names)) == 2_000 and names == sorted(names)  # in the order of the published file
    for row in rows:
        assert re.fullmatch(r"train-\d{5}", row["id"]) and row["image"]["path"] == f"{row['id']}.png"
        pixels = decode(row["image"]["bytes"], 28 * 28)
        assert pixels.shape == (28, 28, 1) and pixels.max() > 0


def test_shards_are_laid_out_as_hugging_face_has_them() -> None:
    for path in SHARDS:
        file = pq.ParquetFile(path)
        features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
        assert features["image"] == {"_type": "Image"}
        assert features["label"]["names"] == list(CLASSES)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        assert [group.num_rows for group in groups] == [256, 256, 256, 232]
        assert {group.column(0).compression for group in groups} == {"UNCOMPRESSED"}
    assert sum(path.stat().st_size for path in SHARDS) < 1_500_000


def publish_idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for name, values in (("train-images-idx3-ubyte.gz", images), ("train-labels-idx1-ubyte.gz", labels)):
        header = struct.pack(f">{1 + values.ndim}i", 0x0800 + values.ndim, *values.shape)
        (folder / name).write_bytes(gzip.compress(header + values.tobytes()))


def test_the_script_gives_the_same_bytes_again(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(10, dtype=np.uint8), 6))
    images = random.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    publish_idx(tmp_path, images, labels)
    one = write_shards(tmp_path, tmp_path / "one", per_class=4)
    two = write_shards(tmp_path, tmp_path / "two", per_class=4)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    rows = [row for path in one for row in pq.read_table(path).to_pylist()]
    for row in rows:
        index = int(row["id"].removeprefix("train-"))
        assert row["label"] == labels[index]
        assert np.array_equal(decode(row["image"]["bytes"], 28 * 28)[:, :, 0], images[index])
    for label in range(10):
        first = np.flatnonzero(labels == label)[:4].tolist()
        assert [int(row["id"][-5:]) for row in rows if row["label"] == label] == first


def test_a_source_that_is_not_what_it_should_be_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        write_shards(tmp_path, tmp_path / "out")
    (tmp_path / "images.gz").write_bytes(gzip.compress(b"GIF89a" * 10))
    with pytest.raises(InputError, match="not an IDX file"):
        read_idx(tmp_path / "images.gz", dimensions=3)
    (tmp_path / "short.gz").write_bytes(gzip.compress(struct.pack(">2i", 0x0801, 9) + b"12"))
    with pytest.raises(InputError, match="declares 9 bytes, it holds 2"):
        read_idx(tmp_path / "short.gz", dimensions=1)
    with pytest.raises(InputError, match="'Trouser' has 0 images"):
        first_of_each_class(np.zeros(5, dtype=np.uint8), per_class=2)
