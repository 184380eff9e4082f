"""AdaIN networks and arithmetic: against NumPy, against the published layout, and at awkward sizes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.model_files import weights
from pipeline.networks.style import adain

WIDTH = 4
REFERENCE_CONVOLUTIONS = (0, 2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
REFERENCE_CHANNELS = (3, 3, 64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512)


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    return adain.build_encoder(WIDTH).eval(), adain.build_decoder(WIDTH).eval()


def images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def numpy_mean_std(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    flat = features.reshape(*features.shape[:2], -1)
    mean, deviation = flat.mean(axis=2), np.sqrt(flat.var(axis=2, ddof=1) + 1e-5)
    return mean[..., None, None], deviation[..., None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mean_std_is_unbiased_with_epsilon_inside_the_root(dtype: torch.dtype) -> None:
    features = torch.randn(2, 5, 3, 4, dtype=dtype, generator=torch.Generator().manual_seed(1))
    mean, deviation = adain.mean_std(features)
    wanted_mean, wanted_deviation = numpy_mean_std(features.double().numpy())
    tolerance = 1e-12 if dtype is torch.float64 else 1e-6
    assert mean.dtype is dtype
    np.testing.assert_allclose(mean.numpy(), wanted_mean, atol=tolerance)
    np.testing.assert_allclose(deviation.numpy(), wanted_deviation, atol=tolerance)


def test_flat_and_single_position_features_have_a_finite_deviation() -> None:
    _, deviation = adain.mean_std(torch.full((1, 2, 1, 1), 3.0))
    np.testing.assert_allclose(deviation.numpy(), np.sqrt(1e-5), rtol=1e-5)


def test_adain_gives_the_content_the_statistics_of_the_style() -> None:
    generator = torch.Generator().manual_seed(2)
    content = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=generator)
    style = 5 + 2 * torch.randn(2, 3, 6, 7, dtype=torch.float64, generator=generator)
    made = adain.adain(content, *adain.mean_std(style)).numpy()
    content_mean, content_deviation = numpy_mean_std(content.numpy())
    style_mean, style_deviation = numpy_mean_std(style.numpy())
    np.testing.assert_allclose(
        made, (content.numpy() - content_mean) / content_deviation * style_deviation + style_mean
    )
    np.testing.assert_allclose(numpy_mean_std(made)[0], style_mean)


def test_losses_are_mean_squares_summed_over_levels() -> None:
    generator = torch.Generator().manual_seed(3)
    levels = [torch.randn(2, c, 6, 6, dtype=torch.float64, generator=generator) for c in (2, 4)]
    styles = [adain.mean_std(torch.randn(2, c, 5, 5, dtype=torch.float64, generator=generator)) for c in (2, 4)]
    wanted = 0.0
    for level, (mean, deviation) in zip(levels, styles, strict=True):
        level_mean, level_deviation = numpy_mean_std(level.numpy())
        wanted += np.mean((level_mean - mean.numpy()) ** 2) + np.mean((level_deviation - deviation.numpy()) ** 2)
    assert adain.style_loss(levels, styles).item() == pytest.approx(wanted)
    difference = levels[0].numpy() - levels[0].flip(0).numpy()
    assert adain.content_loss(levels[0], levels[0].flip(0)).item() == pytest.approx(np.mean(difference**2))


def test_levels_halve_the_resolution_and_double_the_channels(networks: tuple[nn.Sequential, nn.Sequential]) -> None:
    levels = adain.encode_levels(networks[0], images(1, 40, 24))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (WIDTH, 40, 24),
        (2 * WIDTH, 20, 12),
        (4 * WIDTH, 10, 6),
        (8 * WIDTH, 5, 3),
    ]
    torch.testing.assert_close(levels[-1], networks[0](images(1, 40, 24)))


def test_published_layout_loads_at_width_64(tmp_path: Path) -> None:
    encoder = {}
    for place, index in enumerate(REFERENCE_CONVOLUTIONS):
        side = 1 if index == 0 else 3
        encoder[f"{index}.weight"] = torch.zeros(REFERENCE_CHANNELS[place + 1], REFERENCE_CHANNELS[place], side, side)
        encoder[f"{index}.bias"] = torch.full((REFERENCE_CHANNELS[place + 1],), float(index))
    channels = ((512, 256), (256, 256), (256, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64), (64, 3))
    decoder = {}
    for index, (inward, outward) in zip((1, 5, 8, 11, 14, 18, 21, 25, 28), channels, strict=True):
        decoder |= {f"{index}.weight": torch.zeros(outward, inward, 3, 3), f"{index}.bias": torch.zeros(outward)}
    torch.save(encoder, tmp_path / "vgg_normalised.pth")
    torch.save(decoder, tmp_path / "decoder.pth")
    loaded = adain.load_encoder(tmp_path / "vgg_normalised.pth")
    assert len(loaded) == 31
    assert loaded[29].bias.eq(29).all()
    assert adain.load_decoder(tmp_path / "decoder.pth")[1].weight.shape == (256, 512, 3, 3)


def test_both_networks_come_back_from_one_file(tmp_path: Path, networks: tuple[nn.Sequential, nn.Sequential]) -> None:
    path = tmp_path / "both.safetensors"
    adain.save_networks(path, *networks)
    encoder, decoder = adain.load_encoder(path), adain.load_decoder(path)
    for loaded, original in zip((encoder, decoder), networks, strict=True):
        for name, value in loaded.state_dict().items():
            assert value.dtype is torch.float32
            torch.testing.assert_close(value, original.state_dict()[name], atol=1e-3, rtol=1e-3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["both.safetensors"]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"conv1.weight": torch.zeros(8, 3, 3, 3)}, "no AdaIN encoder in it"),
        ({"2.weight": torch.zeros(8, 3, 3, 3)}, "0.bias is missing"),
        (
            {**adain.build_encoder(2).state_dict(), "5.weight": torch.zeros(2, 2, 5, 5)},
            r"5.weight has shape \(2, 2, 5, 5\)",
        ),
        ({**adain.build_encoder(2).state_dict(), "head": torch.zeros(1)}, "head has no place"),
    ],
)
def test_a_foreign_checkpoint_is_one_clear_line(tmp_path: Path, state: dict[str, Tensor], message: str) -> None:
    torch.save(state, tmp_path / "foreign.pth")
    with pytest.raises(ModelError, match=message) as caught:
        adain.load_encoder(tmp_path / "foreign.pth")
    assert "\n" not in str(caught.value)
    assert "foreign.pth" in str(caught.value)


def test_pickled_code_missing_files_and_odd_suffixes_are_refused(tmp_path: Path) -> None:
    torch.save({"a": re.compile("x")}, tmp_path / "code.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    for name in ("code.pth", "cut.safetensors", "none.safetensors", "weights.bin"):
        with pytest.raises(ModelError, match=name):
            weights.load_state(tmp_path / name)


@pytest.mark.parametrize("size", [(1, 1), (1, 28), (2, 3), (5, 17), (8, 8), (15, 16), (28, 28), (33, 47)])
def test_every_size_comes_back_as_it_was(size: tuple[int, int], networks: tuple[nn.Sequential, nn.Sequential]) -> None:
    encoder, decoder = networks
    content = images(2, *size)
    style = adain.style_statistics(encoder, images(1, 9, 20, seed=1))
    made = adain.stylise(encoder, decoder, content, *style, torch.tensor([0.3, 1.0]))
    assert made.shape == content.shape
    assert bool(made.isfinite().all())
    assert made.min() >= 0
    assert made.max() <= 1


def test_padding_reflects_and_keeps_the_image() -> None:
    content = images(1, 28, 30)
    padded, (top, left) = adain.pad_to_stride(content)
    assert padded.shape[-2:] == (32, 32)
    assert torch.equal(padded[:, :, top : top + 28, left : left + 30], content)
    assert torch.equal(padded[:, :, top - 1, left : left + 30], content[:, :, 1])
    aligned = images(1, 16, 24)
    assert torch.equal(adain.pad_to_stride(aligned)[0], aligned)


def test_alpha_zero_is_the_plain_reconstruction(networks: tuple[nn.Sequential, nn.Sequential]) -> None:
    encoder, decoder = networks
    content = images(2, 24, 32)
    style = adain.style_statistics(encoder, images(2, 32, 32, seed=1))
    made = adain.stylise(encoder, decoder, content, *style, torch.zeros(2))
    torch.testing.assert_close(made, decoder(encoder(content)).clamp(0, 1))


def test_each_row_follows_its_own_alpha_and_style(networks: tuple[nn.Sequential, nn.Sequential]) -> None:
    encoder, decoder = networks
    content = images(2, 24, 24)
    mean, deviation = adain.style_statistics(encoder, images(2, 32, 32, seed=1))
    together = adain.stylise(encoder, decoder, content, mean, deviation, torch.tensor([0.2, 0.9]))
    for row, alpha in enumerate((0.2, 0.9)):
        one = slice(row, row + 1)
        alone = adain.stylise(encoder, decoder, content[one], mean[one], deviation[one], torch.tensor([alpha]))
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=1e-5)


def test_double_precision_runs_through_and_agrees() -> None:
    torch.manual_seed(0)
    encoder, decoder = adain.build_encoder(WIDTH), adain.build_decoder(WIDTH)
    content, style = images(1, 20, 20), images(1, 32, 32, seed=1)
    single = adain.stylise(encoder, decoder, content, *adain.style_statistics(encoder, style), torch.ones(1))
    encoder, decoder = encoder.double(), decoder.double()
    statistics = adain.style_statistics(encoder, style.double())
    double = adain.stylise(encoder, decoder, content.double(), *statistics, torch.ones(1))
    assert double.dtype is torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-4, rtol=1e-4)
