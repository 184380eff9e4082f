"""Gates and operators with faults: no image is lost, and a bad one changes no other."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest

import pipeline.registry
from pipeline.contracts import Applied, Draws, Gate, ImageBatch, MadeBatch
from pipeline.gates.parameters import GateParameters
from pipeline.noise import Noise
from pipeline.shards.images.codecs import decode
from tests.execution.test_runner import Picky
from tests.fixtures.data_sets import FLIP, findings, plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.gated import attempts_of


class OddParams(GateParameters):
    limit: float = 0.5


class Odd(Gate):
    """Fails on images whose first pixel is even where `limit` is 0.25, on all where it is 0; refuses none."""

    name = "odd"
    version = 1
    source = "this test"
    Params = OddParams
    uses_torch = False

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    def score(self, batch: MadeBatch) -> npt.NDArray[np.float32]:
        limit = self.params.limit
        if limit == 0 or (limit == 0.25 and (batch.images[:, 0, 0, 0] % 2 == 0).any()):
            raise RuntimeError("cannot look at this")
        return np.full(len(batch.images), 0.5, np.float32)


class Refusing(Odd):
    """Refuses every image."""

    name = "refusing"

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.9, 1.0


class Tiring(Picky):
    """Makes images once; whatever comes after its first call fails."""

    name = "tiring"
    calls: ClassVar[list[int]] = []

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        assert batch.images is not None
        self.calls.append(len(batch))
        if len(self.calls) > 1:
            raise RuntimeError("tired")
        return Applied(255 - batch.images)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(pipeline.registry.GATES, "odd", "tests.execution.test_faulty_gates:Odd")
    monkeypatch.setitem(pipeline.registry.GATES, "refusing", "tests.execution.test_faulty_gates:Refusing")
    monkeypatch.setitem(pipeline.registry.OPERATORS, "tiring", "tests.execution.test_faulty_gates:Tiring")
    monkeypatch.setitem(pipeline.registry.OPERATORS, "picky", "tests.execution.test_runner:Picky")
    Tiring.calls.clear()
    yield


@pytest.mark.usefixtures("odd")
def test_an_image_that_a_gate_fails_on_is_quarantined(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1)
    once = {**FLIP, "copies": 1, "operators": [{"flip": {"probability": 0}}]}
    manifest, outcomes = run_here(
        plan_of(write_recipe(tmp_path, [once], quality={"gates": [{"odd": {"limit": 0.25}}]}))
    )
    quarantined = rows_of(tmp_path / "out", "quarantine")
    assert {row["error_code"] for row in quarantined} == {"gate_failed"}
    assert "cannot look at this" in quarantined[0]["error_message"]
    even = [row for row in quarantined if decode(row["image"]["bytes"], 10**6)[0, 0, 0] % 2 == 0]
    assert 0 < len(even) == len(quarantined) < 24 == len(quarantined) + manifest.counts.accepted
    assert any(not outcome.exact for outcome in outcomes if hasattr(outcome, "exact"))
    assert findings(tmp_path / "out") == []


@pytest.mark.usefixtures("odd")
def test_a_broken_gate_fails_its_units(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, quality={"gates": [{"odd": {"limit": 0}}]})))
    assert not manifest.complete and len(manifest.failed) == 1
    failure = (tmp_path / f"out/_failed/{manifest.failed[0]}.json").read_text()
    assert "every image failed" in failure and "cannot look at this" in failure


@pytest.mark.usefixtures("odd")
def test_rows_lost_while_made_again_are_quarantined_whole(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=5)
    tiring = {"name": "flipped", "copies": 2, "operators": [{"tiring": {}}]}
    quality = {"gates": [{"refusing": {}}], "max_attempts": 3}
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, [tiring], quality=quality)))
    assert Tiring.calls[0] == 10 and len(Tiring.calls) > 2
    assert manifest.complete and manifest.counts.quarantined == 5
    assert manifest.counts.accepted == manifest.counts.rejected == manifest.counts.retried == 0
    assert rows_of(tmp_path / "out", "rejected") == []
    assert findings(tmp_path / "out") == []


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("order", [["refusing", "blank"], ["blank", "refusing"]])
def test_every_gate_scores_and_the_first_that_refuses_is_the_reason(tmp_path: Path, order: list[str]) -> None:
    write_input(tmp_path / "data", shards=1, rows=4)
    quality = {"gates": [{name: {"max_share": 0} if name == "blank" else {}} for name in order], "max_attempts": 2}
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, quality=quality)))
    rows = rows_of(tmp_path / "out", "rejected")
    assert len(rows) == 16 and {row["rejected_reason"] for row in rows} == {order[0]}
    assert all([score["gate"] for score in row["quality"]] == order for row in rows)
    assert (manifest.counts.accepted, manifest.counts.rejected, manifest.counts.retried) == (0, 8, 8)
    assert findings(tmp_path / "out") == []


@pytest.mark.usefixtures("odd")
def test_what_an_operator_rejects_is_neither_scored_nor_made_again(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1)
    picky = {"name": "flipped", "copies": 1, "operators": [{"picky": {}}]}
    quality = {"gates": [{"refusing": {}}], "max_attempts": 2}
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, [picky], quality=quality)))
    images = attempts_of(tmp_path / "out")
    pale = [rows for rows in images.values() if rows[-1]["rejected_reason"] == "too_pale"]
    assert {len(rows) for rows in pale} == {1, 2}  # at once, and after a gate's refusal
    assert all(rows[-1]["quality"] == [] for rows in pale)
    rest = [rows for rows in images.values() if rows not in pale]
    assert rest and all([row["rejected_reason"] for row in rows] == ["refusing"] * 2 for rows in rest)
    assert manifest.counts.rejected == len(images) == 24 - manifest.counts.quarantined
    assert findings(tmp_path / "out") == []
