"""The metrics of a run, read where Prometheus reads them: from the metrics port of a node."""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
import ray

from pipeline.monitoring.metrics import METRICS
from pipeline.run import run_plan
from tests.fixtures.data_sets import FLIP, plan_of, write_recipe
from tests.fixtures.shard_files import photos, write_shard

BRANCH = "measured"
DEADLINE_S = 30


def scraped(branch: str) -> dict[tuple[str, str], float]:
    """Return the values of a branch's series by name and folder, as the nodes serve them."""
    found: dict[tuple[str, str], float] = {}
    for node in ray.nodes():
        place = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(place, timeout=10) as page:
            text = page.read().decode()
        for name, labels, value in re.findall(r"^(ray_palimpsest_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            if f'branch="{branch}"' in labels:
                folder = re.search(r'[{,]folder="(\w+)"', "{" + labels)
                bound = re.search(r'[{,]le="([^"]+)"', "{" + labels)
                key = (name, folder[1] if folder else bound[1] if bound else "")
                found[key] = found.get(key, 0) + float(value)
    return found


def served(expected: Mapping[tuple[str, str], float], branch: str = BRANCH) -> dict[tuple[str, str], float]:
    """Return what is served once it holds what is expected, or after a while."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = scraped(branch)
        if expected.items() <= found.items() or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@pytest.mark.usefixtures("ray_local")
def test_a_node_serves_what_a_run_made(tmp_path: Path) -> None:
    write_shard(tmp_path / "data/a.parquet", [*photos(29), b"no image"], labels=[0] * 30)
    plan = plan_of(write_recipe(tmp_path, [{**FLIP, "name": BRANCH}]))
    made = run_plan(plan, "ray", "local", progress=False)
    sizes = {folder: sum(file.stat().st_size for file in (tmp_path / "out" / folder).iterdir())
             for folder in ("data", "quarantine")}  # fmt: skip
    expected = {
        ("ray_palimpsest_images_total", "data"): 58.0,
        ("ray_palimpsest_quarantined_rows_total", ""): 1.0,
        ("ray_palimpsest_units_done_total", ""): 3.0,
        ("ray_palimpsest_units_left", ""): 0.0,
        ("ray_palimpsest_workers", ""): 0.0,
        ("ray_palimpsest_unit_seconds_count", ""): 3.0,
        ("ray_palimpsest_unit_seconds_bucket", "+Inf"): 3.0,
        **{("ray_palimpsest_written_bytes_total", folder): float(size) for folder, size in sizes.items()},
    }
    found = served(expected)
    assert made.counts.accepted == 58
    assert {key: found.get(key) for key in expected} == expected
    seconds = found["ray_palimpsest_unit_seconds_sum", ""]
    assert 0 < found["ray_palimpsest_busy_seconds_total", ""] < seconds < 60
    defined = {metric.series.removesuffix("_bucket") for metric in METRICS}
    assert {re.sub("_(bucket|count|sum)$", "", name) for name, _ in found} <= defined


def test_a_run_without_ray_imports_none(tmp_path: Path) -> None:
    write_shard(tmp_path / "data/a.parquet", photos(2), labels=[0, 1])
    code = (
        "import sys; from jobs.cli import main\n"
        f"status = main(['run', {str(write_recipe(tmp_path))!r}, '--executor', 'inline', '--quiet'])\n"
        "assert status == 0 and not {'ray', 'pipeline.cluster'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
