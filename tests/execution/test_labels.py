"""A class that an operator drew, or changed, is stored in the type of the input's label column."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline.registry
from pipeline.contracts import Applied, Draws, ImageBatch, Operator, Parameters
from pipeline.noise import Noise
from tests.fixtures.data_sets import CLASSES, plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import photos, write_shard


class DrawnClass(Operator):
    """Makes a grey image of a class it draws; of a source row, the next class."""

    name = "drawn_class"
    version = 1
    source = "this test"
    Params = Parameters
    uses_torch = False
    generative = True

    def draw(self, batch: ImageBatch) -> Draws:
        return Draws({"drawn": [seed % 3 for seed in batch.seeds]})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        images = np.full((len(batch), 8, 8, 1), 99, np.uint8)
        return Applied(images, labels=np.array(draws.columns["drawn"], np.int64))


class Relabel(DrawnClass):
    """Gives every source row class 2."""

    name = "relabel"
    generative = False
    changes_labels = True

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        assert batch.images is not None
        soft = np.zeros((len(batch), 3), np.float32)
        soft[:, 2] = 1
        return Applied(batch.images.copy(), labels=np.full(len(batch), 2, np.int64), soft_labels=soft)


@pytest.fixture(autouse=True)
def test_operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(pipeline.registry.OPERATORS, "drawn_class", "tests.execution.test_labels:DrawnClass")
    monkeypatch.setitem(pipeline.registry.OPERATORS, "relabel", "tests.execution.test_labels:Relabel")
    yield


def drawn_of(row: dict[str, Any]) -> int:
    import json

    return int(json.loads(row["steps"][0]["params"])["drawn"])


def made(
    folder: Path, labels: list[Any], names: tuple[str, ...] | None, branch: dict[str, Any]
) -> list[dict[str, Any]]:
    write_shard(folder / "data/a.parquet", photos(3), labels=labels, class_names=names)
    run_here(plan_of(write_recipe(folder, [branch])))
    return rows_of(folder / "out")


COUNTED = {"name": "drawn", "count": 7, "operators": [{"drawn_class": {}}]}


@pytest.mark.parametrize("names", [CLASSES, None])
def test_a_drawn_class_is_the_index_where_the_input_has_indexes(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    rows = made(tmp_path, [0, 1, 2], names, COUNTED)
    assert len(rows) == 7
    assert [row["label"] for row in rows] == [drawn_of(row) for row in rows]


def test_a_drawn_class_is_its_name_where_the_input_has_names(tmp_path: Path) -> None:
    rows = made(tmp_path, list(CLASSES), CLASSES, COUNTED)
    assert [row["label"] for row in rows] == [CLASSES[drawn_of(row)] for row in rows]


def test_texts_name_the_classes_themselves_in_sorted_order(tmp_path: Path) -> None:
    rows = made(tmp_path, ["owl", "cat", "dog"], None, COUNTED)
    assert [row["label"] for row in rows] == [sorted(CLASSES)[drawn_of(row)] for row in rows]


def test_a_changed_class_is_stored_and_a_missing_one_filled_in(tmp_path: Path) -> None:
    branch = {"name": "relabelled", "copies": 1, "operators": [{"relabel": {}}]}
    assert [row["label"] for row in made(tmp_path, [0, None, 2], CLASSES, branch)] == [2, 2, 2]
