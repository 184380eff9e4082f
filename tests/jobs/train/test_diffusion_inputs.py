"""Bad input to the diffusion operators, as a person meets it: one clear line and exit 2, or a quarantined row."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.cli import main
from tests.fixtures.data_sets import CLASSES, plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import STRUCT, photos, png, write_shard
from tests.fixtures.tiny_models import OWN_WARNING

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]

ROWS = 4


@pytest.fixture
def folder(tmp_path: Path, tiny: Callable[[str], Path]) -> Path:
    """Labelled images with captions and masks, of which the last one is of another size; models beside them."""
    sides = [(24, 32)] * (ROWS - 1) + [(24, 31)]
    masks = [{"bytes": png(np.full((*side, 1), 255, np.uint8)), "path": None} for side in sides]
    write_shard(
        tmp_path / "data" / "train-00000.parquet",
        photos(ROWS),
        labels=[row % 3 for row in range(ROWS)],
        ids=[str(row) for row in range(ROWS)],
        class_names=CLASSES,
        extra={"caption": ["red"] * ROWS, "object_mask": pa.array(masks, STRUCT)},
    )
    shutil.copytree(tiny("stable"), tmp_path / "stable")
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    return tmp_path


def recipe(folder: Path, operator: str, **params: Any) -> Path:
    given = {"model": "stable", "steps": 4, "strength_range": [0.5, 1.0], **params}
    return write_recipe(folder, [{"name": "made", "operators": [{operator: given}]}])


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"model": "gone.safetensors"}, "there is no such file"),
        ({"model": "gone"}, "gone"),
        ({"model": "old.ckpt"}, "safetensors"),
        ({"model": "pickled"}, "no .safetensors file in it"),
        ({"lora": "old.ckpt"}, "is a pickle, which is not safe to load; convert it to .safetensors"),
        ({"prompt": "a {captoin}"}, "there is no column 'captoin'"),
        ({"strength_range": [0.1, 0.5]}, "the smallest usable strength is 0.25"),
        ({"clip_model": "gone"}, "gone"),
        ({"scheduler": "ddmi"}, "scheduler = 'ddmi'"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_2(
    folder: Path, params: dict[str, Any], line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if params.get("model") == "pickled":
        pickle_only(folder / "pickled", folder / "stable")
    path = recipe(folder, "diffusion_edit", **params)
    assert main(["run", str(path), "--executor", "inline"]) == 2
    captured = capsys.readouterr()
    said = [each for each in captured.err.splitlines() if each.startswith("palimpsest: ")]
    assert len(said) == 1 and line in said[0]
    assert "Traceback" not in captured.err and not captured.out
    assert not list(folder.glob("out/data/*"))


def pickle_only(folder: Path, model: Path) -> None:
    """A pipeline's folder whose weights are pickles."""
    shutil.copytree(model, folder)
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))


def test_a_mask_of_another_size_is_a_quarantined_row_and_nothing_is_lost(folder: Path) -> None:
    manifest, _ = run_here(plan_of(recipe(folder, "diffusion_inpaint", mask="object_mask", keep="background")))
    assert manifest.complete
    (lost,) = rows_of(folder / "out", "quarantine")
    assert lost["error_code"] == "mask_size" and "31" in lost["error_message"] and "32" in lost["error_message"]
    assert lost["image"]["bytes"] == photos(ROWS)[-1]
    kept = [*rows_of(folder / "out"), *rows_of(folder / "out", "rejected")]
    assert sorted(row["source_row"] for row in kept) == list(range(ROWS - 1))
