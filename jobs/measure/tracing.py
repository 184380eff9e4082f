"""How often `trace` finds the right row, and that it finds none where there is none.

`python -m jobs.measure.tracing DATASET --key-file F [--images 100] [--unmarked 1000]` prints one JSON object: of so
many images of each marked branch, how many lead to their own row as stored and after JPEG at quality 75, and how many
show a mark under a wrong key; and of so many source images, how many are said to carry a mark.
"""

import argparse
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from pipeline.audit.trace import trace_image
from pipeline.contracts import Pixels
from pipeline.errors import RecipeError
from pipeline.publishing.manifest import read_manifest
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.parquet_files import open_parquet
from pipeline.shards.output.store import Store, open_store
from pipeline.watermark_key import key_id, read_key

MAX_PIXELS = 2**31
JPEG_QUALITY = 75


def rows_of(store: Store, branch: str) -> Iterator[dict[str, Any]]:
    """The rows of a branch, unit by unit."""
    for record in sorted(CommitLog(store).records(), key=lambda record: record.unit):
        if record.branch == branch and "data" in record.files:
            file = open_parquet(store.read(record.files["data"].path))
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, columns=["image", "sample_id"]).to_pylist()


def spread(store: Store, branch: str, count: int) -> list[dict[str, Any]]:
    """`count` rows of a branch, evenly spread."""
    rows = list(rows_of(store, branch))
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places]


def jpeg_compressed(image: Pixels) -> Pixels:
    """Return an image [H, W, C] after JPEG compression at quality 75."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return decode(buffer.getvalue(), MAX_PIXELS)


def found(store: Store, key: bytes, rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many of these rows' images lead to their own row, and to any, by what was done to them."""
    counts = dict.fromkeys(("images", "as_stored", "after_jpeg_75", "mark_under_a_wrong_key"), 0)
    for row in rows:
        image = decode(row["image"]["bytes"], MAX_PIXELS)
        counts["images"] += 1
        for name, shown in (("as_stored", image), ("after_jpeg_75", jpeg_compressed(image))):
            traced = trace_image(shown, store, key).row
            counts[name] += traced is not None and traced["sample_id"] == row["sample_id"]
        wrong = trace_image(image, store, b"wrong" + key)
        counts["mark_under_a_wrong_key"] += wrong.payload is not None or wrong.row is not None
    return counts


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the JSON object that `main` prints."""
    store, key = open_store(options.dataset), read_key(options.key_file)
    manifest = read_manifest(store)
    if key is None or manifest.watermark is None or manifest.watermark["key_id"] != key_id(key):
        raise RecipeError(
            "tracing needs a marked data set and the key it was marked with: --key-file or PALIMPSEST_KEY"
        )
    made = [chain["name"] for chain in manifest.chains if chain["steps"]]
    sources = [decode(row["image"]["bytes"], MAX_PIXELS) for row in spread(store, "original", options.unmarked)]
    marked = sum(trace_image(image, store, key).payload is not None for image in sources)
    return {
        **{branch: found(store, key, spread(store, branch, options.images)) for branch in made},
        "source images": {"images": len(sources), "said_to_be_marked": marked},
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.measure.tracing", description=__doc__)
    parser.add_argument("dataset", metavar="DATASET", help="made with keep_originals: true")
    parser.add_argument("--key-file", metavar="F")
    parser.add_argument("--images", type=int, default=100, help="of each branch (default 100)")
    parser.add_argument("--unmarked", type=int, default=1000, help="source images (default 1000)")
    print(json.dumps(measure(parser.parse_args(arguments)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
