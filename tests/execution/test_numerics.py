"""`numerics.dtype`: networks in half precision, and what must not change with it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palimpsest.testing.operators import OperatorConformance, act, make_batch
from pipeline.audit.replay import replay_sample
from pipeline.contracts import Assets
from pipeline.errors import RecipeError
from pipeline.model_files.references import ASSETS
from pipeline.networks.generators.flow_matching import load_flow, save_flow
from pipeline.networks.precision import cast_network
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit, DiffusionEditParams
from pipeline.operators.diffusion.diffusion_generate import DiffusionGenerate
from pipeline.operators.gan.gan_synth import GanSynth, GanSynthParams
from pipeline.shards.images.codecs import decode
from pipeline.shards.output.store import open_store
from schemas.manifest import UnitRecord
from tests.fixtures.data_sets import contents, plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.tiny_models import OWN_WARNING
from tests.operators.diffusion.test_diffusion_generate import assets_in

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(OWN_WARNING),
    pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning"),  # diffusers tells itself
]

CLASSES = ("cat", "dog", "owl")
HALVES = ("bfloat16", "float16")


class TestGenerateInBfloat16(OperatorConformance):
    operator = DiffusionGenerate
    params: ClassVar = {"model": "tiny.safetensors", "steps": 3, "guidance_range": [1.0, 3.0]}
    tolerance = 8  # bfloat16 has eight bits, and sums of another order end on the other side of one

    def assets(self, folder: Path) -> Assets:
        return replace(assets_in(folder), dtype="bfloat16")


class TestEditInBfloat16(OperatorConformance):
    operator = DiffusionEdit
    params: ClassVar = {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.3, 0.8], "guidance": 2.0}
    tolerance = 8

    def assets(self, folder: Path) -> Assets:
        return replace(assets_in(folder), dtype="bfloat16")


def branch(**params: Any) -> list[dict[str, Any]]:
    given = {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.5, 1.0], **params}
    return [{"name": "edited", "copies": 1, "operators": [{"diffusion_edit": given}]}]


def run(folder: Path, dtype: str) -> list[dict[str, Any]]:
    recipe = write_recipe(folder, branch(), output={"uri": dtype}, numerics={"dtype": dtype})
    _, outcomes = run_here(plan_of(recipe))
    assert all(isinstance(each, UnitRecord) and each.exact for each in outcomes)
    return rows_of(folder / dtype)


def test_halves_make_nearly_the_same_images_and_the_same_ones_every_time(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=12)
    assets_in(tmp_path, CLASSES)
    whole = [decode(row["image"]["bytes"], 10**6).astype(int) for row in run(tmp_path, "float32")]
    for dtype in HALVES:
        rows = run(tmp_path, dtype)
        again = contents(tmp_path / dtype)
        apart = [np.abs(decode(row["image"]["bytes"], 10**6) - image) for row, image in zip(rows, whole, strict=True)]
        assert 0 < np.mean([each.mean() for each in apart]) < 2
        assert replay_sample(open_store(str(tmp_path / dtype)), rows[0]["sample_id"]).equal
        (tmp_path / dtype).rename(tmp_path / f"{dtype}-before")
        run(tmp_path, dtype)
        assert contents(tmp_path / dtype) == again


def test_what_float16_cannot_hold_is_rejected_as_not_finite(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    assets_in(tmp_path, CLASSES)
    net, names = load_flow(tmp_path / "tiny.safetensors")
    net.enter.weight.mul_(2e4 / net.enter.weight.abs().max())  # beyond 65,504 after one layer; normalised after two
    save_flow(tmp_path / "tiny.safetensors", net, names)
    assert len(run(tmp_path, "float32")) == len(run(tmp_path, "bfloat16")) == 6
    assert not run(tmp_path, "float16")
    rejected = rows_of(tmp_path / "float16", "rejected")
    assert [row["rejected_reason"] for row in rejected] == ["non_finite"] * 6


def test_another_type_is_one_clear_line(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=6)
    with pytest.raises(RecipeError, match=r"numerics\.dtype = 'auto': Input should be 'float32', 'bfloat16'"):
        plan_of(write_recipe(tmp_path, numerics={"dtype": "auto"}))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", ["stable", "large", "third", "dit", "pixel"])
def test_models_in_folders_compute_in_halves(kind: str, dtype: str, tiny: Callable[[str], Path]) -> None:
    images = {}
    for each in ("float32", dtype):
        operator = DiffusionEdit(DiffusionEditParams(model=kind, steps=4, strength_range=(0.5, 1.0)))
        operator.load("cpu", Assets(models={"model": tiny(kind)}, dtype=each))  # type: ignore[arg-type]
        images[each] = act(operator, make_batch([0, 1, 2, 3], (16, 16), 3)).images.astype(int)
    backend = operator._backend
    owner = backend.pipeline.pipeline if backend.takes_text else backend.model
    network = getattr(owner, "unet", None) or owner.transformer
    assert {each.dtype for each in network.parameters()} == {getattr(torch, dtype)}
    assert (images[dtype] != images["float32"]).any()
    assert np.abs(images[dtype] - images["float32"]).mean() < 6


def test_what_is_flagged_in_halves_is_rejected_all_the_same(tiny: Callable[[str], Path]) -> None:
    operator = DiffusionEdit(DiffusionEditParams(model="guarded", steps=4, strength_range=(0.5, 1.0)))
    operator.load("cpu", Assets(models={"model": tiny("guarded")}, dtype="bfloat16"))
    assert act(operator, make_batch([0, 1], (16, 16), 3)).rejected == {0: "unsafe", 1: "unsafe"}


def test_a_generator_computes_in_halves_and_keeps_its_statistics(tmp_path: Path) -> None:
    images = {}
    for dtype in ("float32", *HALVES):
        operator = GanSynth(GanSynthParams())
        models = {"model": ASSETS / "models" / "fashion-wgan.safetensors"}
        operator.load("cpu", Assets(models=models, dtype=dtype))  # type: ignore[arg-type]
        images[dtype] = act(operator, make_batch(list(range(6)), None)).images.astype(int)
    for dtype in HALVES:
        apart = np.abs(images[dtype] - images["float32"])
        assert 0 < apart.mean() < 2


def test_what_must_stay_float32_stays_so() -> None:
    from transformers import T5Config, T5EncoderModel

    text = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    assert text.encoder.block[0].layer[-1].DenseReluDense.wo.weight.dtype == torch.float32
    types = {name: each.dtype for name, each in cast_network(text, "float16").named_parameters()}
    assert {dtype for name, dtype in types.items() if ".wo." in name} == {torch.float32}
    assert {dtype for name, dtype in types.items() if ".wo." not in name} == {torch.float16}
