"""Memory that runs out on the GPU: calls are halved, rows keep their order and seeds, and the record says so."""

from pathlib import Path

import numpy as np
import torch

from tests.fixtures.data_sets import rows_of
from tests.fixtures.shard_files import photos, write_shard
from tests.gpu.on_gpu import ADAIN, gpu_plan, images_in, made

BRANCHES = [{"name": "restyled", "copies": 1, "operators": [ADAIN]}]
ROWS = 32


def test_calls_are_halved_until_they_fit(tmp_path: Path) -> None:
    write_shard(tmp_path / "data" / "a.parquet", photos(ROWS, seed=1), labels=[0] * ROWS)
    sections = {"output": {"uri": "roomy", "size": 192, "rows_per_unit": ROWS}, "numerics": {"micro_batch": ROWS}}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _, (roomy,) = made(gpu_plan(tmp_path, "roomy", BRANCHES, **sections))
    needed = torch.cuda.max_memory_allocated() - before
    assert roomy.exact and needed > 100 * 2**20
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + 0.3 * needed
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(0).total_memory)
    try:
        sections["output"] = {**sections["output"], "uri": "tight"}
        _, (tight,) = made(gpu_plan(tmp_path, "tight", BRANCHES, **sections))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert not tight.exact and (tight.accepted, tight.quarantined) == (ROWS, 0)
    for row, other in zip(rows_of(tmp_path / "roomy"), rows_of(tmp_path / "tight"), strict=True):
        assert row["sample_id"] == other["sample_id"] and row["steps"] == other["steps"]
    for image, other in zip(images_in(tmp_path / "roomy"), images_in(tmp_path / "tight"), strict=True):
        assert np.abs(image - other).max() <= 2
