"""Gates in a plan: whom they judge, what they need, and what they change."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import JobError
from pipeline.planning.estimate import estimate
from tests.fixtures.data_sets import FLIP, plan_of, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard
from tests.jobs.test_cli import palimpsest


def digests(recipe: Path, **changes: str) -> dict[str, str]:
    return {unit.name: unit.digest for unit in plan_of(recipe, **changes).units}


def test_without_gates_attempts_change_nothing(tmp_path: Path) -> None:
    write_input(tmp_path / "data")
    recipe = write_recipe(tmp_path)
    assert digests(recipe, quality__max_attempts="5") == digests(recipe)


def test_gates_are_in_the_digests_of_the_branches_they_judge(tmp_path: Path) -> None:
    write_input(tmp_path / "data")
    recipe = write_recipe(tmp_path, [FLIP, {**FLIP, "name": "other"}], output={"keep_originals": True})
    before = digests(recipe)
    gates = "[{similarity: {branches: [other], max_similarity: 0.9}}]"
    found = {
        "one": digests(recipe, quality__gates=gates),
        "stricter": digests(recipe, quality__gates=gates.replace("0.9", "0.8")),
        "attempts": digests(recipe, quality__gates=gates, quality__max_attempts="2"),
        "both": digests(recipe, quality__gates=gates.replace("[other]", "[other, flipped]")),
    }
    for name, after in found.items():
        changed = {unit.split("-")[0] for unit in before if before[unit] != after[unit]}
        assert changed == ({"other", "flipped"} if name == "both" else {"other"})
    others = [after[next(unit for unit in before if unit.startswith("other"))] for after in found.values()]
    assert len(set(others)) == 3 and others[0] == others[3]  # a further branch keeps the units of the first


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ([{"sharpnes": {}}], ["quality.gates[0]", "'sharpness'"]),
        ([{"blank": {"most_shar": 0.5}}], ["quality.gates[0].blank.most_shar", "'max_share'"]),
        ([{"blank": {"max_share": 5}}], ["blank.max_share", "5"]),
        ([{"blank": {}, "sharpness": {}}], ["one gate an entry"]),
        ([{"blank": {}}, {"blank": {"max_share": 0.5}}], ["quality.gates[1]", "twice"]),
        ([{"blank": {"branches": ["fliped"]}}], ["blank.branches", "'flipped'"]),
        ([{"similarity": {}}], ["'synthetic'", "has none", "branches: [flipped]"]),
        ([{"similarity": {"branches": ["synthetic"]}}], ["'synthetic'", "leave it out"]),
        ([{"clip": {}}], ["clip.model", "missing"]),
        ([{"clip": {"model": "nowhere"}}], ["'nowhere'", "no such file"]),
    ],
)
def test_a_wrong_gate_is_one_line_before_anything_runs(
    tmp_path: Path, gates: list[dict[str, Any]], words: list[str]
) -> None:
    write_input(tmp_path / "data", shards=1, rows=3)
    synthetic = {"name": "synthetic", "per_class": 2, "operators": [{"gan_synth": {}}]}
    with pytest.raises(JobError) as caught:
        plan_of(write_recipe(tmp_path, [FLIP, synthetic], quality={"gates": gates}))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_classes_that_are_not_there_are_one_line(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    write_shard(tmp_path / "data/a.parquet", photos(3), labels=[0, 1, 0])
    clip = {"clip": {"model": str(tiny("clip"))}}
    with pytest.raises(JobError, match=r"needs 1 at least, and the input has 0; say them with input.class_names"):
        plan_of(write_recipe(tmp_path, quality={"gates": [clip]}))
    write_input(tmp_path / "data")
    (tmp_path / "data/a.parquet").unlink()
    counted = {"name": "any", "count": 2, "operators": [{"gan_synth": {}}]}
    with pytest.raises(JobError, match=r"'any' \(`count`\) has no classes"):
        plan_of(write_recipe(tmp_path, [counted], quality={"gates": [clip]}))


def test_gates_cost_time_in_the_estimate(tmp_path: Path) -> None:
    write_input(tmp_path / "data")
    recipe = write_recipe(tmp_path)
    plain, gated = (
        estimate(plan_of(recipe, quality__gates=gates))[0].seconds
        for gates in ("[]", "[{sharpness: {}}, {similarity: {}}, {blank: {}}]")
    )
    assert gated == pytest.approx(plain + 96 * 0.008, abs=0.11)  # both are rounded


def test_a_plan_with_a_clip_gate_imports_no_torch(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    recipe = write_recipe(tmp_path, quality={"gates": [{"clip": {"model": str(tiny("clip"))}}]})
    code = (
        "import sys, jobs.cli\nstatus = jobs.cli.main(sys.argv[1:])\n"
        "heavy = [name for name in ('torch', 'ray', 'diffusers', 'transformers') if name in sys.modules]\n"
        "assert not heavy, heavy\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "plan", str(recipe)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_command_line_refuses_lists_and_describes(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    recipe = str(write_recipe(tmp_path))
    for command in (["plan"], ["run", "--executor", "inline"]):
        done = palimpsest(*command, recipe, "--set", "quality.gates=[{blanc: {}}]")
        assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1 and "'blank'" in done.stderr
    assert not (tmp_path / "out").exists()
    listed = palimpsest("operators").stdout
    assert all(name in listed.split("gates (quality.gates)")[1] for name in ("blank", "clip", "similarity"))
    assert "max_share: number >= 0 <= 1 = 0.95" in palimpsest("operators", "blank").stdout
