"""Files of units: row groups and files are bounded in bytes, too."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.audit.replay import replay_sample
from pipeline.shards.output.store import open_store
from pipeline.shards.output.unit_files import row_groups
from tests.fixtures.data_sets import findings, plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import png, write_shard

MIB = 1 << 20


def test_row_groups_are_halved_until_they_are_small() -> None:
    table = pa.table({"image": [bytes(size) for size in (1_000, 1_000, 1_000, 90_000, 10, 10, 10, 10)]})
    found = [group.column("image").to_pylist() for group in row_groups(table, 3_000)]
    assert [[len(image) for image in group] for group in found] == [
        [1_000, 1_000], [1_000], [90_000], [10, 10, 10, 10],
    ]  # fmt: skip
    assert [group.num_rows for group in row_groups(table)] == [8]
    assert [group.num_rows for group in row_groups(table.slice(3, 1), 3_000)] == [1]


def test_files_of_large_images_are_bounded_by_fewer_rows_a_unit(tmp_path: Path) -> None:
    """40 images of noise of about 110 kB, as PNG in and out: 4.3 MB in units of 40, and 1 MiB a file at most."""
    random = np.random.default_rng(0)
    images = [png(random.integers(0, 256, (190, 190, 3), dtype=np.uint8)) for _ in range(40)]
    write_shard(tmp_path / "data" / "a.parquet", images, labels=[0] * 40)
    units = {}
    for name, bound in (("small", {"max_file_bytes": MIB}), ("whole", {})):
        plan = plan_of(write_recipe(tmp_path, output={"uri": name, "rows_per_unit": 40, "encoding": "png", **bound}))
        run_here(plan)
        assert findings(tmp_path / name) == []
        units[name] = [path.stat().st_size for path in (tmp_path / name / "data").glob("*.parquet")]
    assert len(units["whole"]) == 1 and units["whole"][0] > 8 * MIB
    assert len(units["small"]) == 40 and max(units["small"]) < MIB
    small, whole = (rows_of(tmp_path / name) for name in ("small", "whole"))
    same = "sample_id", "image", "steps", "source_row"
    assert sorted([row[each] for each in same] for row in small) == sorted(
        [row[each] for each in same] for row in whole
    )
    assert replay_sample(open_store(str(tmp_path / "small")), small[-1]["sample_id"]).equal
