"""Folded convolutions: what they do is what the plain layers do, in every type, size and batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.networks.folding import BlockConvolution, DoublingConvolution, fold_doublings
from pipeline.networks.style import adain, fast_style_network

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [(1, 1), (1, 6), (2, 2), (5, 3), (16, 24)]


def convolution(inward: int, outward: int, kernel: int, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(kernel)
    return nn.Conv2d(inward, outward, kernel, bias=bias).double().requires_grad_(False)


def signal(count: int, channels: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(count, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_doubling_and_convolution_are_one(size: tuple[int, int], bias: bool) -> None:
    plain, images = convolution(4, 5, 3, bias), signal(3, 4, size)
    doubled = F.pad(F.interpolate(images, scale_factor=2, mode="nearest"), (1, 1, 1, 1), mode="reflect")
    made = DoublingConvolution(plain)(images)
    torch.testing.assert_close(made, plain(doubled), atol=1e-12, rtol=1e-12)
    assert made.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("size", "kernel"), [((2, 2), 3), ((6, 10), 9), ((16, 12), 9), ((8, 8), 1)])
def test_a_block_of_pixels_at_once_is_each_alone(size: tuple[int, int], kernel: int) -> None:
    plain, images = convolution(3, 2, kernel), signal(2, 3, size)
    wanted = plain(F.pad(images, (kernel // 2,) * 4, mode="reflect"))
    torch.testing.assert_close(BlockConvolution(plain)(images), wanted, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("levels", [3, 4])
def test_a_folded_decoder_decodes_the_same(levels: int) -> None:
    torch.manual_seed(0)
    decoder = adain.build_decoder(6, levels).double().eval().requires_grad_(False)
    folded = fold_doublings(decoder)
    assert sum(isinstance(layer, DoublingConvolution) for layer in folded) == levels - 1
    features = signal(2, 24 if levels == 3 else 48, (4, 3))
    torch.testing.assert_close(folded(features), decoder(features), atol=1e-12, rtol=1e-12)


def test_a_folded_style_network_paints_the_same_and_leaves_the_plain_one_alone() -> None:
    torch.manual_seed(1)
    network = fast_style_network.StyleNetwork((3, 4, 5), 2).double().eval().requires_grad_(False)
    images = signal(2, 3, (20, 13)).abs() * 90
    before = network(images)
    torch.testing.assert_close(fast_style_network.folded(network)(images), before, atol=1e-9, rtol=1e-10)
    assert torch.equal(network(images), before)


def test_folding_keeps_type_and_device_state() -> None:
    folded = DoublingConvolution(convolution(4, 5, 3).to(torch.bfloat16))
    assert folded.weight.dtype is torch.bfloat16 and folded.bias.dtype is torch.bfloat16
    assert {name for name, _ in folded.named_buffers()} == {"weight", "bias"}  # so that `to` moves them


def test_another_doubling_is_not_folded() -> None:
    layers = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReflectionPad2d(1), nn.Conv2d(3, 3, 3))
    with pytest.raises(ValueError, match="no doubling that can be folded"):
        fold_doublings(layers)
