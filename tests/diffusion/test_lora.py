"""LoRA adapters: the arithmetic, the three ways files name their layers, and adapters that do not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from palimpsest.testing.operators import act, make_batch
from pipeline.contracts import Assets
from pipeline.diffusion.class_conditional import ClassConditionalModel
from pipeline.diffusion.lora import METADATA_KEY, merge_lora
from pipeline.diffusion.text_pipelines import load_pipeline
from pipeline.errors import ModelError, RecipeError
from pipeline.operators.diffusion.diffusion_edit import DiffusionEditParams
from pipeline.registry import operator_class
from pipeline.validation import parse
from tests.fixtures.tiny_models import OWN_WARNING

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]

QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "encoder.layers.0.self_attn.q_proj"


@pytest.fixture
def pipeline(tiny: Callable[[str], Path]) -> Any:
    return load_pipeline(tiny("stable"), "edit")


def factors(layer: nn.Module, rank: int = 2) -> tuple[Tensor, Tensor]:
    """down [rank, in, ...] and up [out, rank, ...] for a layer."""
    generator = torch.Generator().manual_seed(1)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    down = torch.randn(rank, *weight.shape[1:], generator=generator)
    return down, torch.randn(weight.shape[0], rank, *[1] * (weight.dim() - 2), generator=generator)


def product(down: Tensor, up: Tensor) -> Tensor:
    return (up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])


def written(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata or None)
    return path


def test_weights_gain_scale_times_alpha_over_rank_times_the_product(pipeline: Any, tmp_path: Path) -> None:
    layers = {f"unet.{QUERY}": pipeline.unet.get_submodule(QUERY), f"unet.{CONV}": pipeline.unet.get_submodule(CONV)}
    before = {name: layer.weight.clone() for name, layer in layers.items()}
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = factors(layer)
    path = written(tmp_path / "lora.safetensors", tensors, **{METADATA_KEY: json.dumps({"unet.lora_alpha": 6})})
    assert merge_lora(pipeline, path, 0.5) == 2
    for name, layer in layers.items():
        torch.testing.assert_close(layer.weight - before[name], 0.5 * 6 / 2 * product(*factors(layer)))


def test_files_of_diffusers_and_of_kohya_name_the_same_layers(pipeline: Any, tmp_path: Path) -> None:
    attention = "down_blocks_1_attentions_0_transformer_blocks_0_attn1"
    processor = f"unet.{QUERY.removesuffix('to_q')}processor"
    text = pipeline.text_encoder.get_submodule(TEXT)
    query, out = pipeline.unet.get_submodule(QUERY), pipeline.unet.get_submodule(f"{OUT}.0")
    files = {
        "old": {
            (query, f"{processor}.to_q_lora.down.weight", f"{processor}.to_q_lora.up.weight"),
            (out, f"{processor}.to_out_lora.down.weight", f"{processor}.to_out_lora.up.weight"),
        },
        "kohya": {
            (query, f"lora_unet_{attention}_to_q.lora_down.weight", f"lora_unet_{attention}_to_q.lora_up.weight"),
            (out, f"lora_unet_{attention}_to_out_0.lora_down.weight", f"lora_unet_{attention}_to_out_0.lora_up.weight"),
            (text, *(f"lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_{s}.weight" for s in ("down", "up"))),
        },
    }
    for kind, layers in files.items():
        tensors = {}
        for layer, down, up in layers:
            tensors[down], tensors[up] = factors(layer)
            if kind == "kohya":
                tensors[f"{down.split('.')[0]}.alpha"] = torch.tensor(1.0)
        before = {down: layer.weight.clone() for layer, down, _ in layers}
        assert merge_lora(pipeline, written(tmp_path / f"{kind}.safetensors", tensors), 1.0) == len(layers)
        for layer, down, _ in layers:
            share = 0.5 if kind == "kohya" else 1.0
            torch.testing.assert_close(layer.weight - before[down], share * product(*factors(layer)))


def test_a_class_models_layers_are_named_as_they_are(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    model = ClassConditionalModel(tiny("pixel"), "cpu", 4, None)
    layer, before = model.unet.get_submodule("conv_in"), model.unet.conv_in.weight.clone()
    down, up = factors(layer)
    tensors = {"unet.conv_in.lora.down.weight": down, "unet.conv_in.lora.up.weight": up}
    assert merge_lora(model, written(tmp_path / "lora.safetensors", tensors), 2.0) == 1
    torch.testing.assert_close(layer.weight - before, 2 * product(down, up))


@pytest.mark.parametrize("name", ["edit", "generate", "inpaint", "control", "mix"])
def test_every_operator_with_an_adapter_makes_another_image(
    name: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    layer = load_pipeline(tiny("stable"), "edit").unet.get_submodule(QUERY)
    down, up = factors(layer)
    tensors = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}
    written(tmp_path / "lora.safetensors", tensors)
    found = operator_class(f"diffusion_{name}")
    more = {"controlnet": "control"} if name == "control" else {}
    models = {"model": tiny("stable"), **({"controlnet": tiny("control")} if more else {})}
    batch = make_batch([0, 1], None if name == "generate" else (16, 16), 3)
    images = []
    for scale in (0.0, 1.0, None):
        given = {} if scale is None else {"lora": "lora.safetensors", "lora_scale": scale}
        operator = found(found.Params(model="stable", steps=4, guidance=3.0, **more, **given))
        assets = models if scale is None else {**models, "lora": tmp_path / "lora.safetensors"}
        assert set(operator.requirements().models) == set(assets)
        operator.load("cpu", Assets(models=assets))
        images.append(act(operator, batch).images)
    assert (images[0] == images[2]).all() and (images[1] != images[0]).any()


def test_adapters_that_do_not_fit_are_one_line(pipeline: Any, tmp_path: Path) -> None:
    down, up = factors(pipeline.unet.get_submodule(QUERY))
    name = f"unet.{QUERY}"
    for tensors, message in (
        ({"unet.nowhere.lora_A.weight": down, "unet.nowhere.lora_B.weight": up}, "no layer unet.nowhere"),
        ({f"{name}.lora_A.weight": down}, "one factor of two"),
        ({f"{name}.lora_A.weight": down[:, :3], f"{name}.lora_B.weight": up}, "another architecture"),
        ({f"{name}.weight": down}, "no factor of a LoRA layer"),
        ({f"{name}.lora_magnitude_vector": down}, "DoRA, LoKr and LoHa"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            merge_lora(pipeline, written(tmp_path / "bad.safetensors", tensors), 1.0)
        assert "\n" not in str(caught.value)
    (tmp_path / "text.safetensors").write_text("not safetensors")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        merge_lora(pipeline, tmp_path / "text.safetensors", 1.0)
    with pytest.raises(RecipeError, match="is a pickle, which is not safe to load"):
        parse(DiffusionEditParams, {"lora": "adapter.bin"}, "diffusion_edit")
