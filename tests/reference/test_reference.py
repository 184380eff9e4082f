"""The style methods' torch code against `derive.py`: within 1e-4 in float32, within 1e-10 in float64."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.networks.style import adain, fast_style_network, gatys
from pipeline.networks.style.vgg import Vgg
from tests.reference import derive

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}
Expected = dict[str, np.ndarray]
precise = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=["float32", "float64"])


def stored(name: str) -> Expected:
    with np.load(derive.FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def tensors(expected: Expected, dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value).to(dtype) for key, value in expected.items()}


def assert_is(found: Tensor, expected: np.ndarray) -> None:
    tolerance = TOLERANCES[found.dtype]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.detach().double().numpy(), expected, rtol=tolerance, atol=tolerance)


# ---- the expected tensors themselves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(derive.DERIVATIONS))
def test_the_committed_file_is_what_the_script_derives(name: str) -> None:
    committed, now = stored(name), derive.derived(name)
    assert committed.keys() == now.keys()
    for key, value in now.items():
        assert committed[key].dtype == np.float64
        np.testing.assert_allclose(committed[key], value, rtol=1e-12, atol=1e-12)


def test_the_script_knows_numpy_alone() -> None:
    tree = ast.parse(Path(derive.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} == {"collections", "numpy", "pathlib"}


# ---- Huang & Belongie ------------------------------------------------------------------------------------------------


@precise
def test_adain(dtype: torch.dtype) -> None:
    expected = stored("adain")
    given = tensors(expected, dtype)
    mean, std = adain.mean_std(given["style"])
    assert_is(mean, expected["style_mean"])
    assert_is(std, expected["style_std"])
    assert_is(adain.adain(given["content"], mean, std), expected["moved"])


@precise
def test_alpha_mixes_features_between_encoder_and_decoder(dtype: torch.dtype) -> None:
    expected = stored("adain")
    given = tensors(expected, dtype)
    # Networks that change nothing, and content of a size that takes no padding: what is left is equation 14.
    plain = nn.Sequential(nn.Identity())
    statistics = adain.mean_std(given["style"])
    assert ((expected["mixed"] > 0) & (expected["mixed"] < 1)).all()  # so clamping hides nothing
    assert_is(adain.stylise(plain, plain, given["content"], *statistics, given["alpha"]), expected["mixed"])


# ---- Gatys, Ecker & Bethge -------------------------------------------------------------------------------------------


@precise
def test_gatys_losses_and_their_gradients(dtype: torch.dtype) -> None:
    expected = stored("gatys")
    given = tensors(expected, dtype)
    features = given["features"].requires_grad_()
    assert_is(gatys.gram(features), expected["gram"])
    content = gatys.content_loss(features, given["content"])
    assert_is(content, expected["content_loss"])
    assert_is(torch.autograd.grad(content.sum(), features)[0], expected["content_gradient"])
    style = gatys.style_layer_loss(features, gatys.style_target(given["style"]))
    assert_is(style, expected["style_loss"])
    assert_is(torch.autograd.grad(style.sum(), features)[0], expected["style_gradient"])
    other = gatys.style_layer_loss(features, gatys.style_target(given["style_of_another_size"]))
    assert_is(other, expected["style_loss_of_another_size"])


@precise
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_vgg_layers(dtype: torch.dtype, pooling: str) -> None:
    expected = stored("vgg")
    layers = [key.split("/")[1] for key in expected if key.startswith(f"{pooling}/")]
    found = vgg(expected, dtype, pooling)(torch.from_numpy(expected["images"]).to(dtype), layers)
    assert len(layers) == {"max": 5, "average": 1}[pooling]
    for layer, features in zip(layers, found, strict=True):
        assert_is(features, expected[f"{pooling}/{layer}"])


@precise
def test_the_whole_loss_of_an_image(dtype: torch.dtype) -> None:
    expected = stored("vgg")
    given = tensors(expected, dtype)
    objective = gatys.Objective(vgg(expected, dtype, "max"), gatys.STYLE_LAYERS[:4])
    targets = gatys.Targets(objective.content_target(given["content"]), objective.style_targets(given["style"]))
    assert_is(objective.losses(given["images"], targets, torch.full((1,), 50.0, dtype=dtype)), expected["loss"])


def vgg(expected: Expected, dtype: torch.dtype, pooling: str) -> Vgg:
    widths = [w for w, depth in zip(derive.VGG_WIDTHS, derive.VGG19_BLOCKS, strict=True) for _ in range(depth)][:10]
    network = Vgg(widths, "vgg19", "max" if pooling == "max" else "average").to(dtype)
    network.load_state_dict(
        {name: value for name, value in tensors(expected, dtype).items() if name in network.state_dict()}
    )
    return network.requires_grad_(False)


# ---- Johnson, Alahi & Fei-Fei ----------------------------------------------------------------------------------------


@precise
def test_the_feed_forward_network(dtype: torch.dtype) -> None:
    expected = stored("johnson")
    network = fast_style_network.StyleNetwork(derive.JOHNSON_WIDTHS, derive.JOHNSON_BLOCKS).to(dtype)
    given = tensors(expected, dtype)
    network.load_state_dict({name: given[name] for name in network.state_dict()})
    for size in ("", "_of_odd_size"):
        images, wanted = given[f"images{size}"], expected[f"made{size}"]
        assert_is(network(images) / 255, wanted / 255)
        height, width = images.shape[2:]
        assert wanted.shape[2:] == (-(-height // 4) * 4, -(-width // 4) * 4)
        shown = fast_style_network.stylise(network, images / 255, torch.full((len(images),), 0.75, dtype=dtype))
        blended = 0.75 * wanted[:, :, :height, :width].clip(0, 255) / 255 + 0.25 * expected[f"images{size}"] / 255
        assert_is(shown, blended)


@precise
def test_convolution_with_reflection_and_instance_norm(dtype: torch.dtype) -> None:
    expected = stored("johnson")
    given = tensors(expected, dtype)
    layer = fast_style_network.Convolution(3, derive.JOHNSON_WIDTHS[0], 9, stride=2).to(dtype)
    layer.conv2d.load_state_dict({part: given[f"conv1.conv2d.{part}"] for part in ("weight", "bias")})
    assert_is(layer(given["images"] / 255), expected["strided"])
    norm = fast_style_network.Residual(4).in1.to(dtype)
    norm.load_state_dict({"weight": torch.arange(1.0, 5.0), "bias": torch.arange(4.0)})
    assert_is(norm(given["features"]), expected["normed"])


@precise
def test_perceptual_losses(dtype: torch.dtype) -> None:
    expected = stored("johnson")
    given = tensors(expected, dtype)
    assert_is(fast_style_network.feature_loss(given["features"], given["target"]), expected["feature_loss"])
    target = fast_style_network.normalised_gram(given["target"])
    assert_is(fast_style_network.style_loss(given["features"], target), expected["style_loss"])
    assert_is(fast_style_network.total_variation(given["images"] / 255), expected["variation"])
