"""Equal bytes on one device: of a second run, and of two workers side by side that share the units."""

import subprocess
import sys
from pathlib import Path

from pipeline.audit.replay import replay_sample
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.store import open_store
from tests.fixtures.data_sets import contents, rows_of
from tests.gpu.on_gpu import BRANCHES, KEY, gpu_plan, made

WORKER = """
import sys
from pathlib import Path
from pipeline.execution.worker import run_inline
from pipeline.execution.job import Job
from schemas.manifest import UnitRecord
from tests.gpu.on_gpu import KEY, plan_of
plan = plan_of(Path(sys.argv[1]))
mine = [unit for index, unit in enumerate(reversed(plan.units)) if index % 2 == int(sys.argv[2])]
ended = list(run_inline(Job.of(plan), plan.branches, mine, KEY))
sys.exit(0 if ended and all(isinstance(each, UnitRecord) and each.exact for each in ended) else 1)
"""


def test_a_second_run_and_two_workers_side_by_side_make_the_same_bytes(tmp_path: Path) -> None:
    first, _ = made(gpu_plan(tmp_path, "first", BRANCHES, marked=True))
    assert first.complete and first.counts.accepted == 24 * 4 + 40
    made(gpu_plan(tmp_path, "second", BRANCHES, marked=True))
    assert contents(tmp_path / "second") == contents(tmp_path / "first")
    plan = gpu_plan(tmp_path, "shared", BRANCHES, marked=True)
    prepare(plan, open_store(plan.output))
    command = [sys.executable, "-c", WORKER, str(tmp_path / "shared.yaml")]
    workers = [subprocess.Popen([*command, each]) for each in ("0", "1")]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    assert contents(tmp_path / "shared") == contents(tmp_path / "first")


def test_replay_on_the_same_device_makes_the_same_bytes(tmp_path: Path) -> None:
    manifest, records = made(gpu_plan(tmp_path, "out", BRANCHES[:2], marked=True))
    rows = rows_of(tmp_path / "out")
    for row in (rows[0], rows[-1]):
        again = replay_sample(open_store(str(tmp_path / "out")), row["sample_id"], KEY)
        assert again.equal and not again.other_device
        assert again.stored_device == again.replayed_device == records[0].device == manifest.devices[0]
