"""Half precision on a real local Ray: one actor, two and none make the same bytes."""

from pathlib import Path

import pytest

from pipeline.cluster.engine import execute
from pipeline.execution.job import Job
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.store import open_store
from tests.fixtures.data_sets import contents, plan_of, publish, run_here, write_input, write_recipe
from tests.operators.diffusion.test_diffusion_generate import assets_in

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.mark.slow
def test_bfloat16_makes_the_same_bytes_with_one_actor_with_two_and_inline(tmp_path: Path) -> None:
    write_input(tmp_path / "data")
    assets_in(tmp_path, ("cat", "dog", "owl"))
    edit = {"diffusion_edit": {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.5, 1.0], "guidance": 2.0}}
    new = {"diffusion_generate": {"model": "tiny.safetensors", "steps": 3}}
    branches = [
        {"name": "edited", "copies": 2, "operators": [edit]},
        {"name": "new", "per_class": 15, "operators": [new]},
    ]
    for actors in (0, 1, 2):
        resources = {name: {"actors": max(1, actors)} for name in ("edited", "new")}
        recipe = write_recipe(
            tmp_path, branches, output={"uri": f"out-{actors}"}, numerics={"dtype": "bfloat16"}, resources=resources
        )
        plan = plan_of(recipe)
        if not actors:
            run_here(plan)
            continue
        prepare(plan, open_store(plan.output))
        list(execute(Job.of(plan), plan.branches, plan.units))
        assert publish(plan, open_store(plan.output)).complete
        assert contents(tmp_path / f"out-{actors}") == contents(tmp_path / "out-0") != {}
