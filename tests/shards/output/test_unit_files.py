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
    """8 images of noise of about 110 kB, two copies each, PNG in and out: in one file, or in files below 1 MiB."""
    random = np.random.default_rng(0)
    images = [png(random.integers(0, 256, (190, 190, 3), dtype=np.uint8)) for _ in range(8)]
    write_shard(tmp_path / "data" / "a.parquet", images, labels=[0] * 8)
    sizes, rows = {}, {}
    for name, bound in (("small", {"max_file_bytes": MIB}), ("whole", {})):
        plan = plan_of(write_recipe(tmp_path, output={"uri": name, "rows_per_unit": 8, "encoding": "png", **bound}))
        run_here(plan)
        assert findings(tmp_path / name) == []
        sizes[name] = [path.stat().st_size for path in (tmp_path / name / "data").glob("*.parquet")]
        rows[name] = {row["sample_id"]: (row["image"], row["source_row"]) for row in rows_of(tmp_path / name)}
    assert len(sizes["whole"]) == 1 and sizes["whole"][0] > 1.6 * MIB
    assert len(sizes["small"]) == 8 and max(sizes["small"]) < MIB
    assert rows["small"] == rows["whole"]
    assert replay_sample(open_store(str(tmp_path / "small")), min(rows["small"])).equal
