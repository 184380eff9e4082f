"""The feed-forward network: published checkpoints, awkward sizes, foreign files. The numbers: `tests/reference`."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.model_files import weights
from pipeline.networks.style import fast_style_network
from pipeline.networks.style.fast_style_network import StyleNetwork, load_network, save_network, stylise

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [(1, 1), (1, 90), (4, 5), (5, 4), (7, 33), (8, 8), (9, 10), (28, 28), (30, 31)]


def published_state() -> dict[str, Tensor]:
    """The names and shapes of a checkpoint of PyTorch's `fast_neural_style`, written down here once more."""
    convolutions = {"conv1": (32, 3, 9), "conv2": (64, 32, 3), "conv3": (128, 64, 3)}
    convolutions |= {f"res{block}.conv{part}": (128, 128, 3) for block in range(1, 6) for part in (1, 2)}
    convolutions |= {"deconv1": (64, 128, 3), "deconv2": (32, 64, 3), "deconv3": (3, 32, 9)}
    norms = {"in1": 32, "in2": 64, "in3": 128, "in4": 64, "in5": 32}
    norms |= {f"res{block}.in{part}": 128 for block in range(1, 6) for part in (1, 2)}
    state = {}
    for place, (name, (outward, inward, side)) in enumerate(convolutions.items()):
        state[f"{name}.conv2d.weight"] = torch.full((outward, inward, side, side), float(place))
        state[f"{name}.conv2d.bias"] = torch.full((outward,), float(place))
    for name, width in norms.items():
        state |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    return state


def drawn(widths: tuple[int, int, int] = (3, 4, 5), blocks: int = 2, seed: int = 0) -> StyleNetwork:
    torch.manual_seed(seed)
    network = StyleNetwork(widths, blocks).eval().requires_grad_(False)
    network.deconv3.conv2d.weight.mul_(100)
    network.deconv3.conv2d.bias.fill_(127)
    return network


def images(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_published_checkpoint_loads(tmp_path: Path) -> None:
    torch.save(published_state(), tmp_path / "mosaic.pth")
    network = load_network(tmp_path / "mosaic.pth")
    assert network.get_submodule("res5").conv2.conv2d.weight.eq(12).all()
    assert network.deconv3.conv2d.bias.eq(15).all()
    assert not any(value.requires_grad for value in network.parameters()) and not network.training
    assert set(network.state_dict()) == set(published_state())


def test_an_old_checkpoint_loses_its_running_statistics(tmp_path: Path) -> None:
    network = drawn()
    state = network.state_dict()
    norms = [
        name.removesuffix(".weight") for name, value in state.items() if name.endswith("weight") and value.ndim == 1
    ]
    assert len(norms) == 9
    for name in norms:
        state[f"{name}.running_mean"] = torch.full_like(state[f"{name}.weight"], 9.0)
        state[f"{name}.running_var"] = torch.full_like(state[f"{name}.weight"], 9.0)
        state[f"{name}.num_batches_tracked"] = torch.tensor(3)
    torch.save(state, tmp_path / "old.pth")
    pictures, ones = images(1, 12, 12), torch.ones(1)
    torch.testing.assert_close(
        stylise(load_network(tmp_path / "old.pth"), pictures, ones), stylise(network, pictures, ones)
    )


@pytest.mark.parametrize(("widths", "blocks"), [((3, 4, 5), 2), ((8, 8, 8), 0), ((2, 6, 4), 11)])
def test_widths_and_blocks_are_read_off_the_file(tmp_path: Path, widths: tuple[int, int, int], blocks: int) -> None:
    network = drawn(widths, blocks)
    save_network(tmp_path / "small.safetensors", network, "drawn")
    loaded = load_network(tmp_path / "small.safetensors")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.conv2d.weight": None}, "no fast style network in it"),
        ({"conv1.conv2d.weight": torch.zeros(3)}, "no fast style network in it"),
        ({"res2.in1.bias": None}, r"not a fast style network: res2\.in1\.bias is missing"),
        ({"head": torch.zeros(1)}, "head has no place in it"),
        ({"res3.conv1.conv2d.bias": torch.zeros(5)}, r"res3\.conv1\.conv2d\.weight is missing"),
        ({"deconv1.conv2d.weight": torch.zeros(5, 4, 3, 3)}, r"deconv1\.conv2d\.weight has shape \(5, 4, 3, 3\), not"),
        ({"conv1.conv2d.weight": torch.zeros(3, 3, 7, 7)}, r"conv1\.conv2d\.weight has shape \(3, 3, 7, 7\)"),
    ],
)  # fmt: skip
def test_other_weights_are_one_clear_line(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    state = {name: value for name, value in (drawn().state_dict() | change).items() if value is not None}
    if "res3.conv1.conv2d.bias" in state:
        state |= {f"res3.{name}": value for name, value in drawn().res2.state_dict().items() if "conv1" not in name}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=message) as caught:
        load_network(tmp_path / "other.pth")
    assert "\n" not in str(caught.value) and "other.pth" in str(caught.value)


def test_code_in_a_pickle_and_damaged_files_are_refused(tmp_path: Path) -> None:
    torch.save({"conv1.conv2d.weight": re.compile("x")}, tmp_path / "code.pth")
    torch.save(drawn(), tmp_path / "module.pth")
    weights.save_state(tmp_path / "cut.safetensors", published_state())
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:1000])
    for name in ("code.pth", "module.pth", "cut.safetensors", "none.safetensors"):
        with pytest.raises(ModelError, match=name) as caught:
            load_network(tmp_path / name)
        assert "\n" not in str(caught.value)


# ---- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_every_size_comes_back_as_it_was(size: tuple[int, int]) -> None:
    made = stylise(drawn(), images(2, *size), torch.tensor([0.3, 1.0]))
    assert made.shape == (2, 3, *size)
    assert made.isfinite().all() and made.min() >= 0 and made.max() <= 1


def test_the_network_sees_0_to_255_and_its_answer_is_clamped() -> None:
    seen = []

    def network(pictures: Tensor) -> Tensor:
        seen.append(pictures)
        return 3 * pictures - 200

    pictures = images(1, 16, 16)
    made = stylise(network, pictures, torch.ones(1))  # type: ignore[arg-type]
    torch.testing.assert_close(seen[0], pictures * 255)
    torch.testing.assert_close(made, (3 * pictures - 200 / 255).clamp(0, 1))
    assert (made == 0).any() and (made == 1).any()


def test_alpha_blends_with_the_source_row_by_row() -> None:
    network, pictures = drawn(), images(3, 16, 20)
    styled = stylise(network, pictures, torch.ones(3))
    assert (styled - pictures).abs().mean() > 0.05
    made = stylise(network, pictures, torch.tensor([0.0, 0.25, 1.0]))
    assert torch.equal(made[0], pictures[0])
    torch.testing.assert_close(made[1], 0.25 * styled[1] + 0.75 * pictures[1])
    torch.testing.assert_close(made[2], styled[2])


def test_a_constant_image_is_finite_and_of_one_colour_inside() -> None:
    for level in (0.0, 0.5, 1.0):
        made = stylise(drawn(), torch.full((1, 3, 48, 48), level), torch.ones(1))
        assert made.isfinite().all() and made.std(dim=(2, 3)).max() < 1e-3


def test_total_variation_sees_edges_alone() -> None:
    assert fast_style_network.total_variation(torch.full((1, 3, 6, 6), 0.7)) == 0
    half = torch.zeros(1, 1, 4, 4)
    half[..., 2:] = 1
    assert fast_style_network.total_variation(half).item() == pytest.approx(4 / 12)


def test_instance_norm_is_torchs_and_sums_half_precision_in_full() -> None:
    norm, wanted = fast_style_network.InstanceNorm(3), torch.nn.InstanceNorm2d(3, affine=True)
    torch.nn.init.uniform_(wanted.weight), torch.nn.init.uniform_(wanted.bias)
    norm.load_state_dict(wanted.state_dict())
    signal = 100 + images(2, 40, 30)
    torch.testing.assert_close(norm(signal), wanted(signal), atol=1e-3, rtol=1e-3)
    flat = torch.full((2, 3, 64, 64), 187.3)
    torch.testing.assert_close(norm(flat), wanted.bias.view(1, 3, 1, 1).expand_as(flat), atol=1e-5, rtol=0)
    outlier = flat.clone()
    outlier[:, :, 8, 8] = 10  # among the positions that the first mean is taken from
    torch.testing.assert_close(norm(outlier).double(), wanted.double()(outlier.double()), atol=2e-3, rtol=1e-4)
    halved = norm((signal - 100).bfloat16())
    assert halved.dtype is torch.float32
    torch.testing.assert_close(halved, wanted.float()((signal - 100).bfloat16().float()), atol=1e-4, rtol=1e-4)
