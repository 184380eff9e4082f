"""Requests to an object store by a whole run, by method: `python -m tests.chaos.requests [--units 200] [--rows 256]`.

One shard of tiny images in a bucket, each unit a row group; a flip in this process; data set and report in the bucket.
"""

import argparse
import contextlib
import io
import sys
import time
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

import palimpsest
from tests.fixtures.faulty_proxy import FaultyProxy, proxied
from tests.fixtures.object_stores import BUCKET, moto, s3_settings
from tests.fixtures.shard_files import STRUCT, photos


def measure(units: int, rows: int, proxy: FaultyProxy, shards: int = 1) -> Counter[str]:
    """Return the requests of a run over units x rows images of 8 px, plan and report included."""
    import s3fs

    files = s3fs.S3FileSystem()
    some, place = photos(64, 8, 8), f"{BUCKET}/{units}"
    for shard in range(shards):
        mine = range(shard * units // shards * rows, (shard + 1) * units // shards * rows)
        images = pa.array([{"bytes": some[row % 64], "path": None} for row in mine], STRUCT)
        out = io.BytesIO()
        table = pa.table({"image": images, "label": [row % 3 for row in mine], "id": [str(row) for row in mine]})
        pq.write_table(table, out, row_group_size=rows, compression="none")
        files.pipe_file(f"{place}/in/{shard:05d}.parquet", out.getvalue())
    files.invalidate_cache()
    proxy.clear()
    result = palimpsest.run(
        {
            "version": 1,
            "seed": 7,
            "watermark": "none",
            "input": {"uri": f"s3://{place}/in"},
            "output": {"uri": f"s3://{place}/out", "encoding": "jpeg", "rows_per_unit": rows},
            "branches": [{"name": "b", "copies": 1, "operators": [{"flip": {}}]}],
        },
        executor="inline",
        progress=False,
    )
    assert result.counts.accepted == units * rows
    return Counter(proxy.counts)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--units", type=int, default=200)
    options.add_argument("--rows", type=int, default=256, help="rows a unit")
    options.add_argument("--shards", type=int, default=1)
    options.add_argument("--paths", action="store_true", help="print the requests themselves")
    given = options.parse_args()
    began = time.monotonic()
    with moto() as url, proxied(url) as proxy, s3_settings(proxy.url), contextlib.redirect_stderr(sys.stdout):
        found = measure(given.units, given.rows, proxy, given.shards)
        received, sent = proxy.received, proxy.sent
        if given.paths:
            print(*(f"{method} {path[:150]}" for method, path in proxy.requests), sep="\n")
    print(f"{given.units} units of {given.rows} rows in {given.shards} shards, {time.monotonic() - began:.0f} s")
    for kind, count in found.most_common():
        print(f"{kind:16} {count:6} {count / given.units:8.2f} a unit")
    print(f"{'all':16} {found.total():6} {found.total() / given.units:8.2f} a unit")
    print(f"{received / 2**20:.1f} MiB read, {sent / 2**20:.1f} MiB written")


if __name__ == "__main__":
    main()
