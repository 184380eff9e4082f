"""`quality.unit_timeout_s`: a unit that hangs is given up, the others complete, and no byte depends on the limit."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster.engine import execute
from pipeline.plan import Plan
from pipeline.publishing.differences import difference_text
from pipeline.publishing.prepare import prepare
from pipeline.registry import OPERATORS
from pipeline.shards.output.store import open_store
from schemas.manifest import Failure, UnitRecord
from tests.cluster.probes import REGISTRATION, probe_job
from tests.fixtures.data_sets import plan_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard


def probed(folder: Path, probe: dict[str, Any], limit_s: float) -> Plan:
    """Return a plan over four shards of one unit and one class each."""
    for label in range(4):
        write_shard(folder / f"data/{label}.parquet", photos(4, seed=label), labels=[label] * 4)
    branch = {"name": "probed", "copies": 1, "operators": [{"probe": probe}]}
    return plan_of(
        write_recipe(
            folder, [branch], quality={"unit_timeout_s": limit_s}, resources={"probed": {"actors": 2, "cpus": 1}}
        )
    )


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_unit_that_hangs_fails_after_three_workers_and_the_others_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPERATORS, *REGISTRATION)
    plan = probed(tmp_path, {"what": "hang", "seconds": 600.0}, 3.0)
    store = open_store(plan.output)
    prepare(plan, store)
    outcomes = list(execute(probe_job(plan), plan.branches, plan.units))
    assert sum(isinstance(outcome, UnitRecord) for outcome in outcomes) == 3
    (failure,) = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert failure.error == "it ran longer than quality.unit_timeout_s (3 s) 3 times"
    assert failure.attempts == 3
    assert Failure.model_validate_json(store.read(f"_failed/{failure.unit}.json")) == failure


def test_the_limit_is_in_no_digest_and_a_resume_may_change_it(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    free = plan_of(write_recipe(tmp_path))
    manifest, _ = run_here(free)
    limited = plan_of(write_recipe(tmp_path, quality={"unit_timeout_s": 60.0}))
    assert [unit.digest for unit in limited.units] == [unit.digest for unit in free.units]
    assert difference_text(manifest, limited) == ""
    again, made = run_here(limited)
    assert manifest.complete and again.complete
    assert made == []


def test_inline_has_no_limit(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    manifest, made = run_here(plan_of(write_recipe(tmp_path, quality={"unit_timeout_s": 0.000_001})))
    assert manifest.complete
    assert len(made) == 1
