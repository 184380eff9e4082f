"""AdaIN by region, against NumPy over the pixels of each region alone."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.model_files.references import ASSETS
from pipeline.networks.style import adain
from pipeline.networks.style.regional_adain import feature_shares, region_mean_std, stylise_regions

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_region_of_everything_has_the_plain_statistics() -> None:
    features = drawn(2, 5, 6, 7)
    whole = region_mean_std(features, features.new_ones(2, 1, 6, 7))
    for found, wanted in zip(whole, adain.mean_std(features), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


def test_the_statistics_of_a_region_are_those_of_its_positions_alone() -> None:
    features, inside = drawn(1, 4, 6, 6), drawn(1, 1, 6, 6, seed=1) > 0
    mean, std = region_mean_std(features, inside.double())
    chosen = features[0][:, inside[0, 0]].numpy()
    np.testing.assert_allclose(mean[0, :, 0, 0].numpy(), chosen.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(std[0, :, 0, 0].numpy(), np.sqrt(chosen.var(axis=1, ddof=1) + 1e-5), atol=1e-12)


def test_partial_shares_are_reliability_weights() -> None:
    features, shares = drawn(1, 3, 5, 5), drawn(1, 1, 5, 5, seed=2).abs().clamp(0, 1)
    mean, std = region_mean_std(features, shares)
    values, weights = features[0].flatten(1).numpy(), shares.flatten().numpy()
    for channel in range(3):
        np.testing.assert_allclose(mean[0, channel, 0, 0], np.average(values[channel], weights=weights), atol=1e-12)
        variance = np.cov(values[channel], aweights=weights)  # NumPy's own unbiased form
        np.testing.assert_allclose(std[0, channel, 0, 0], np.sqrt(variance + 1e-5), atol=1e-12)


def test_an_empty_region_and_one_of_one_position_are_finite() -> None:
    features = drawn(1, 3, 4, 4)
    shares = features.new_zeros(1, 1, 4, 4)
    mean, std = region_mean_std(features, shares)
    assert not mean.any()
    torch.testing.assert_close(std, torch.full_like(std, np.sqrt(1e-5)))
    shares[0, 0, 1, 2] = 0.25
    mean, std = region_mean_std(features, shares)
    torch.testing.assert_close(mean[0, :, 0, 0], features[0, :, 1, 2])
    torch.testing.assert_close(std, torch.full_like(std, np.sqrt(1e-5)), atol=1e-9, rtol=0)


def test_shares_are_averages_over_the_blocks_of_the_padded_image() -> None:
    mask = torch.zeros(1, 1, 20, 16)  # padded to 24 rows: 2 above, 2 below
    mask[:, :, 6:] = 1
    found = feature_shares(mask, (3, 2))[0, 0]
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]))
    mask[:, :, 6:8] = 0
    torch.testing.assert_close(feature_shares(mask, (3, 2))[0, 0, 1], torch.tensor([0.75, 0.75]))


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Sequential, nn.Sequential]:
    shipped = ASSETS / "models" / "adain.safetensors"
    return adain.load_encoder(shipped).double(), adain.load_decoder(shipped).double()


def test_one_region_of_everything_is_plain_adain(networks: tuple[nn.Sequential, nn.Sequential]) -> None:
    content, style = drawn(2, 3, 24, 20).sigmoid(), drawn(1, 3, 16, 16, seed=3).sigmoid()
    alpha = torch.tensor([0.3, 1.0], dtype=torch.float64)
    with torch.no_grad():
        mean, std = adain.style_statistics(networks[0], style)
        wanted = adain.stylise(*networks, content, mean, std, alpha)
        made = stylise_regions(*networks, content, content.new_ones(2, 1, 24, 20), [(mean, std)], alpha)
        kept = stylise_regions(*networks, content, content.new_zeros(2, 1, 24, 20), [(mean, std)], alpha)
        plain = adain.stylise(*networks, content, mean, std, 0 * alpha)
    torch.testing.assert_close(made, wanted, atol=1e-10, rtol=0)
    torch.testing.assert_close(kept, plain, atol=1e-10, rtol=0)
    assert (made - plain).abs().max() > 0.01


def test_two_regions_are_two_separate_adains_of_the_features(networks: tuple[nn.Sequential, nn.Sequential]) -> None:
    content, left = drawn(1, 3, 16, 32).sigmoid(), torch.zeros(1, 1, 16, 32, dtype=torch.float64)
    left[..., :16] = 1
    styles = [adain.style_statistics(networks[0], drawn(1, 3, 16, 16, seed=seed).sigmoid()) for seed in (4, 5)]
    alpha = torch.ones(1, dtype=torch.float64)
    with torch.no_grad():
        features = networks[0](content)
        halves = [adain.adain(half, *style) for half, style in zip(features.split(4, dim=3), styles, strict=True)]
        wanted = networks[1](torch.cat(halves, dim=3)).clamp(0, 1)
        made = stylise_regions(*networks, content, torch.cat([left, 1 - left], dim=1), styles, alpha)
    torch.testing.assert_close(made, wanted, atol=1e-10, rtol=0)
