"""Style operators over bad input: one clear line and exit 2, or a row that is rejected or quarantined."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.cli import main
from pipeline.audit.verify import verify_dataset
from pipeline.registry import OPERATORS, operator_class
from pipeline.shards.output.store import open_store
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard
from tests.fixtures.vgg_files import write_vgg
from tests.networks.style.test_fast_style_network import drawn
from tests.operators.style.test_adain_style import networks

pytestmark = pytest.mark.usefixtures("one_thread")

STYLE: dict[str, dict[str, Any]] = {
    "adain_style": {"styles": "references/", "style_size_px": 32, "model": "adain.safetensors"},
    "color_transfer": {"styles": "references/"},
    "fast_style": {"model": "fast.pth"},
    "mix_style": {"model": "adain.safetensors"},
    "neural_style": {
        "styles": "references/", "style_size_px": 32, "model": "vgg.pth", "steps": 2, "optimizer": "adam",
        "min_side_px": 16,
    },
    "style_randomization": {"styles": "references/", "style_size_px": 32, "rank": 2, "model": "adain.safetensors"},
    "texture_quilt": {"textures": "references/", "texture_size_px": 32, "candidates": 8},
    "texture_synthesis": {"max_pixels": 64},
}  # fmt: skip
BANKS = {name: key for name, params in STYLE.items() for key in ("styles", "textures") if key in params}
NETWORKS = [name for name, params in STYLE.items() if "model" in params]

Check = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_input(tmp_path / "data", shards=1, rows=4)
    (tmp_path / "references").mkdir()
    for index, data in enumerate(photos(3, 40, 32, seed=50)):
        (tmp_path / f"references/{index}.png").write_bytes(data)
    networks(tmp_path)
    torch.save(drawn().state_dict(), tmp_path / "fast.pth")
    write_vgg(tmp_path / "vgg.pth")
    return tmp_path


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run one operator; return the one line that `palimpsest run` ends with, at exit 2 and with nothing written."""

    def line(name: str, **params: Any) -> str:
        recipe = write_recipe(folder, [{"name": "styled", "operators": [{name: {**STYLE[name], **params}}]}])
        assert main(["run", str(recipe), "--executor", "inline"]) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert told[-1].startswith("palimpsest: ") and "Traceback" not in "".join(told)
        assert rows_of(folder / "out") == []
        return told[-1]

    return line


def test_no_style_operator_is_left_out() -> None:
    named = {name for name in OPERATORS if "styl" in name or "texture" in name or "color" in name}
    assert named == set(STYLE)
    fields = {name: operator_class(name).Params.model_fields for name in STYLE}
    assert {name for name, known in fields.items() if {"styles", "textures"} & set(known)} == set(BANKS)
    assert {name for name, known in fields.items() if "model" in known} == set(NETWORKS)


@pytest.mark.parametrize("name", sorted(BANKS))
def test_an_empty_bank_and_one_that_is_not_there_end_in_one_line(name: str, folder: Path, refused: Check) -> None:
    (folder / "empty").mkdir()
    (folder / "empty/readme.txt").write_text("no picture")
    for reference_set in ("empty/", "nowhere/", "empty/*.png", "nothing.parquet"):
        assert reference_set in refused(name, **{BANKS[name]: reference_set})


@pytest.mark.parametrize("name", sorted(BANKS))
@pytest.mark.parametrize(("content", "said"), [(b"hello", "not usable as a"), (b"", "not usable as a")])
def test_a_style_that_is_no_image_ends_in_one_line(
    name: str, content: bytes, said: str, folder: Path, refused: Check
) -> None:
    (folder / "references/broken.png").write_bytes(content)
    line = refused(name)
    assert f"{name}.{BANKS[name]}" in line and "broken.png" in line and said in line


@pytest.mark.parametrize("name", sorted(BANKS))
def test_a_style_that_is_a_sliver_ends_in_one_line(name: str, folder: Path, refused: Check) -> None:
    (folder / "references/sliver.png").write_bytes(photos(1, 2, 90)[0])
    line = refused(name)
    assert "sliver.png: 90 x 2 px is too narrow" in line


def test_a_mask_column_that_is_not_there_ends_in_one_line(refused: Check) -> None:
    assert "adain_style.mask: there is no column 'masks' (known: " in refused(
        "adain_style", mask="masks", keep="object"
    )


@pytest.mark.parametrize("name", sorted(name for name in STYLE if name not in ("mix_style", "texture_synthesis")))
@pytest.mark.parametrize("value", [[-0.1, 0.5], [0.5, 1.5], [0.9, 0.1], ["x", 1], 0.5])
def test_a_share_that_is_none_ends_in_one_line(name: str, value: Any, refused: Check) -> None:
    if name == "neural_style":
        assert "neural_style.style_weight_range" in refused(name, style_weight_range=[-1, 2])
        return
    assert f"{name}.alpha_range" in refused(name, alpha_range=value)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_of_another_architecture_ends_in_one_line(name: str, folder: Path, refused: Check) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 2)).state_dict(), folder / "other.pth")
    torch.save({"state": [1, 2, 3]}, folder / "nested.pth")
    (folder / "text.safetensors").write_text("no weights")
    for model in ("other.pth", "nested.pth", "text.safetensors", "gone.pth"):
        assert model in refused(name, model=model)


@pytest.mark.parametrize("name", sorted(STYLE))
def test_odd_images_are_made_and_broken_ones_are_quarantined(name: str, folder: Path) -> None:
    shapes = [(1, 1, 3), (1, 1, 1), (1, 90, 3), (90, 1, 1), (3, 120, 3), (24, 24, 3), (24, 24, 1)]
    flat = [np.full(shape, level, np.uint8) for shape in shapes for level in (0, 128, 255)]
    rng = np.random.default_rng(1)
    grainy = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    images: list[Any] = [*flat, *grainy, b"junk", None]
    write_shard(folder / "data/train-00000.parquet", images, ids=[str(index) for index in range(len(images))])
    branch = {"name": "styled", "copies": 2, "operators": [{name: STYLE[name]}]}
    manifest, _ = run_here(plan_of(write_recipe(folder, [branch], output={"rows_per_unit": 100})))
    counts = manifest.counts
    assert manifest.complete and manifest.failed == []
    assert (counts.accepted, counts.rejected) == (2 * (len(images) - 2), 0)
    lost = {row["source_id"]: row["error_code"] for row in rows_of(folder / "out", "quarantine")}
    assert lost == {str(len(images) - 2): "not_an_image", str(len(images) - 1): "null_image"}
    assert verify_dataset(open_store(str(folder / "out"))).ok
