"""Operators of other packages on real Ray: run, verified, replayed, and refused where their code is another."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from pipeline.audit.replay import replay_sample
from pipeline.cluster.engine import execute
from pipeline.errors import ConflictError, JobError
from pipeline.execution.job import Job
from pipeline.plan import Plan
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.store import open_store
from schemas.manifest import UnitRecord
from tests.fixtures.data_sets import findings, plan_of, publish, rows_of, run_here, write_input, write_recipe
from tests.fixtures.outside import EXAMPLES, forget, install, install_example

BLURRED: dict[str, Any] = {"name": "blurred", "operators": [{"acme_blur": {}}]}
NAMED: dict[str, Any] = {"name": "named", "operators": [{"acme_blur:AcmeBlur": {}}]}
EMPTY = """
from pipeline.gates.blank import Blank
class Empty(Blank):
    'As blank.'
    name = 'empty'
"""


def run_on_ray(plan: Plan) -> list[Any]:
    prepare(plan, open_store(plan.output))
    outcomes = list(execute(Job.of(plan), plan.branches, plan.units))
    publish(plan, open_store(plan.output))
    return outcomes


def recipe_of(folder: Path, branches: list[dict[str, Any]], **sections: Any) -> Path:
    write_input(folder / "data", shards=1, rows=12)
    return write_recipe(folder, branches, **sections)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_package_runs_is_verified_and_replayed(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_example("acme_blur")
    install("acme-empty", {"empty.py": EMPTY}, {"palimpsest.gates": {"empty": "empty:Empty"}})
    plan = plan_of(recipe_of(tmp_path, [BLURRED, NAMED], quality={"gates": [{"empty": {}}]}))
    assert all(isinstance(outcome, UnitRecord) for outcome in run_on_ray(plan))
    package = plan.branches[0].steps[0].package
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 24
    assert {row["steps"][0]["package"] for row in rows} == {str(package)}
    assert {row["steps"][0]["operator"] for row in rows} == {"acme_blur", "acme_blur:AcmeBlur"}
    assert {score["gate"] for row in rows for score in row["quality"]} == {"empty"}
    for name in ("acme_blur", "acme_blur:AcmeBlur", "empty"):
        assert main(["operators", name]) == 0
        assert "sha256:" in capsys.readouterr().out
    assert main(["operators"]) == 0
    assert "(acme-blur 0.1.0)" in capsys.readouterr().out
    forget()
    assert findings(tmp_path / "out") == []
    assert not {"acme_blur", "empty"} & set(sys.modules)  # verify needs no code of others
    store = open_store(str(tmp_path / "out"))
    assert replay_sample(store, rows[0]["sample_id"]).equal
    shutil.rmtree(next(site.glob("acme_blur-*.dist-info")))
    (site / "acme_blur.py").unlink()
    forget()
    assert findings(tmp_path / "out") == []  # nor that it is installed
    with pytest.raises(JobError, match=r"operator acme_blur:AcmeBlur \(acme-blur 0.1.0 sha256:.{12}\) is not here"):
        replay_sample(store, rows[0]["sample_id"])


@pytest.mark.usefixtures("ray_local")
def test_a_worker_with_other_code_stops_the_run(site: Path, tmp_path: Path) -> None:
    install_example("acme_blur")
    plan = plan_of(recipe_of(tmp_path, [BLURRED]))
    prepare(plan, open_store(plan.output))
    install_example("acme_blur", "0.1.1", ("math.ceil(3", "math.ceil(4"))
    with pytest.raises(JobError, match=r"is other code here \(acme-blur 0.1.1 sha256:.*than what was planned"):
        list(execute(Job.of(plan), plan.branches, plan.units))
    assert rows_of(tmp_path / "out") == []


def test_other_code_is_a_conflict_that_names_it(site: Path, tmp_path: Path) -> None:
    install_example("acme_blur")
    recipe = recipe_of(tmp_path, [BLURRED])
    run_here(plan_of(recipe))
    install_example("acme_blur", "0.1.1", ("math.ceil(3", "math.ceil(4"))
    plan = plan_of(recipe)
    with pytest.raises(ConflictError, match=r"acme_blur was acme-blur 0.1.0 sha256:.*, and is acme-blur 0.1.1"):
        prepare(plan, open_store(plan.output))


@pytest.mark.usefixtures("ray_local")
def test_labels_that_change_softly_verify_without_a_fault(site: Path, tmp_path: Path) -> None:
    install_example("acme_mix")
    plan = plan_of(recipe_of(tmp_path, [{"name": "mixed", "copies": 2, "operators": [{"acme_mix": {}}]}]))
    run_on_ray(plan)
    rows = rows_of(tmp_path / "out")
    assert len({row["label"] for row in rows}) == 3 and all(max(row["soft_label"]) < 1 for row in rows)
    assert any(row["label"] != int(row["source_id"].split("-")[1]) % 3 for row in rows)
    forget()
    assert findings(tmp_path / "out") == []
    shutil.rmtree(next(site.glob("acme_mix-*.dist-info")))
    (site / "acme_mix.py").unlink()
    forget()
    assert findings(tmp_path / "out") == []


def test_an_operator_that_changes_labels_must_say_so(site: Path, tmp_path: Path) -> None:
    install_example("acme_mix", change=("changes_labels = True", "changes_labels = False"))
    plan = plan_of(recipe_of(tmp_path, [{"name": "mixed", "operators": [{"acme_mix": {}}]}]))
    with pytest.raises(JobError, match="it returned soft_labels, and its class has not changes_labels = True"):
        run_here(plan)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["acme_blur", "acme_mix"])
def test_an_example_installs_and_is_found_without_a_network(name: str, tmp_path: Path) -> None:
    source = Path(shutil.copytree(EXAMPLES / name, tmp_path / name))
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, capture_output=True)
    root = str(Path(__file__).resolve().parents[2])
    environment = {"PYTHONPATH": f"{root}:{tmp_path / 'site'}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "jobs", "operators", name]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"of {name.replace('_', '-')} 0.1.0 sha256:" in done.stdout
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=source)
    assert done.returncode == 0, done.stdout
