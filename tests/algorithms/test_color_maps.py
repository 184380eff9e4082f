"""Colour statistics and the three maps, against formulas written here a second time."""

import numpy as np
import pytest

from pipeline.algorithms import color_maps
from pipeline.algorithms.color_maps import Floats, Method

CONES = [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
METHODS: tuple[Method, ...] = ("reinhard", "coral", "optimal_transport")


def image(seed: int, size: tuple[int, int] = (30, 41)) -> np.ndarray:
    """Correlated colours well inside the range, so that no logarithm is floored: [h, w, 3] uint8."""
    rng = np.random.default_rng(seed)
    mixing = rng.uniform(-12, 12, (3, 3))
    colours = rng.standard_normal((*size, 3)) @ mixing + rng.uniform(100, 150, 3)
    return np.rint(colours).clip(20, 235).astype(np.uint8)


def l_alpha_beta(rgb: Floats) -> Floats:
    """Reinhard et al. 2001 as printed, base-10 logarithms: [n, 3] -> [n, 3]."""
    long, middle, short = np.log10(np.array([np.dot(CONES, pixel) for pixel in rgb])).T
    light = (long + middle + short) / np.sqrt(3)
    yellow_blue = (long + middle - 2 * short) / np.sqrt(6)
    return np.stack([light, yellow_blue, (long - middle) / np.sqrt(2)], axis=1)


def flat(levels: Floats) -> Floats:
    return levels.reshape(-1, 3).astype(np.float64)


def covariance(levels: Floats) -> Floats:
    return np.cov(flat(levels).T, bias=True)


def moved(source: np.ndarray, target: np.ndarray, method: Method, max_gain: float = 1e9) -> Floats:
    return color_maps.transfer_colours(source, color_maps.statistics(target), method, max_gain)


def test_moments_are_those_of_numpy() -> None:
    pixels = image(1)
    mean, found = color_maps.moments(pixels)
    np.testing.assert_allclose(mean, flat(pixels).mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(found, covariance(pixels), atol=1e-9)


def test_a_constant_image_has_a_variance_of_exactly_zero() -> None:
    pixels = np.full((977, 331, 3), (255, 77, 13), dtype=np.uint8)
    assert (color_maps.moments(pixels)[1] == 0).all()


def test_l_alpha_beta_is_the_published_one_up_to_the_base_of_its_logarithm() -> None:
    pixels = flat(image(2))
    np.testing.assert_allclose(color_maps.to_opponent(pixels.T).T / np.log(10), l_alpha_beta(pixels), atol=1e-12)


def test_l_alpha_beta_goes_back_to_rgb() -> None:
    pixels = flat(image(3)).T
    np.testing.assert_allclose(color_maps.from_opponent(color_maps.to_opponent(pixels)), pixels, atol=1e-10)


def test_reinhard_gives_the_mean_and_deviation_of_the_reference_in_l_alpha_beta() -> None:
    source, target = image(4), image(5)
    made, wanted = l_alpha_beta(flat(moved(source, target, "reinhard"))), l_alpha_beta(flat(target))
    np.testing.assert_allclose(made.mean(axis=0), wanted.mean(axis=0), atol=1e-10)
    np.testing.assert_allclose(made.std(axis=0), wanted.std(axis=0), atol=1e-10)


def test_reinhard_is_the_published_formula_on_every_pixel() -> None:
    source, target = image(4), image(5)
    own, wanted = l_alpha_beta(flat(source)), l_alpha_beta(flat(target))
    shifted = (own - own.mean(axis=0)) * wanted.std(axis=0) / own.std(axis=0) + wanted.mean(axis=0)
    np.testing.assert_allclose(l_alpha_beta(flat(moved(source, target, "reinhard"))), shifted, atol=1e-10)


def test_optimal_transport_gives_the_mean_and_covariance_of_the_reference() -> None:
    source, target = image(6), image(7)
    made = moved(source, target, "optimal_transport")
    np.testing.assert_allclose(flat(made).mean(axis=0), flat(target).mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(covariance(made), covariance(target), rtol=1e-8, atol=1e-8)


def test_optimal_transport_is_the_symmetric_positive_map() -> None:
    own, wanted = covariance(image(8)), covariance(image(9))
    matrix = color_maps.monge_kantorovich(own, wanted)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert (np.linalg.eigvalsh(matrix) > 0).all()
    np.testing.assert_allclose(matrix @ own @ matrix, wanted, rtol=1e-9, atol=1e-9)


def test_optimal_transport_moves_colours_less_than_any_other_map_with_its_covariance() -> None:
    source, target = image(8), image(9)
    own, wanted = covariance(source), covariance(target)
    centred = flat(source) - flat(source).mean(axis=0)

    def cost(matrix: Floats) -> float:
        return float(((centred @ matrix.T - centred) ** 2).sum(axis=1).mean())

    best = cost(color_maps.monge_kantorovich(own, wanted))
    lower, upper = np.linalg.cholesky(own), np.linalg.cholesky(wanted)
    for seed in range(20):  # every map with that covariance is wanted^(1/2) Q own^(-1/2), Q a rotation
        rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
        other = upper @ rotation @ np.linalg.inv(lower)
        np.testing.assert_allclose(other @ own @ other.T, wanted, atol=1e-8)
        assert cost(other) > best


def test_coral_gives_the_mean_and_covariance_of_the_reference() -> None:
    source, target = image(10), image(11)
    made = moved(source, target, "coral")
    np.testing.assert_allclose(flat(made).mean(axis=0), flat(target).mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(covariance(made), covariance(target), rtol=1e-3, atol=1e-3)  # but for the ridge


def test_coral_is_whitening_and_recolouring_of_standardised_channels() -> None:
    source, target = flat(image(10)), flat(image(11))

    def root(matrix: Floats) -> Floats:
        left, values, right = np.linalg.svd(matrix)
        return left @ np.diag(np.sqrt(values)) @ right

    ridge = 1e-6 * np.eye(3)
    whitened = (source - source.mean(axis=0)) / source.std(axis=0)
    whitened = whitened @ np.linalg.inv(root(np.corrcoef(source.T) + ridge)).T
    wanted = whitened @ root(np.corrcoef(target.T) + ridge).T * target.std(axis=0) + target.mean(axis=0)
    np.testing.assert_allclose(flat(moved(image(10), image(11), "coral")), wanted, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_an_image_given_its_own_colours_is_unchanged(method: Method) -> None:
    pixels = image(12)
    np.testing.assert_allclose(moved(pixels, pixels, method), pixels, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_image_becomes_the_mean_of_the_reference(method: Method) -> None:
    made = moved(np.full((9, 7, 3), (200, 30, 90), dtype=np.uint8), image(13), method)
    assert (made == made[0, 0]).all()
    own = color_maps.to_opponent if method == "reinhard" else np.asarray
    wanted = np.asarray(own(flat(image(13)).T)).mean(axis=1)
    np.testing.assert_allclose(np.asarray(own(made[:1, 0].T))[:, 0], wanted, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_reference_paints_everything_in_its_colour(method: Method) -> None:
    made = moved(image(14), np.full((5, 5, 3), (200, 30, 90), dtype=np.uint8), method)
    np.testing.assert_allclose(made, np.broadcast_to((200.0, 30.0, 90.0), made.shape), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [(0, 0, 0), (255, 255, 255), (255, 0, 0)])
def test_colours_on_a_line_or_a_plane_stay_finite(method: Method, level: tuple[int, int, int]) -> None:
    grey = np.repeat(image(15)[..., :1], 3, axis=2)
    split = image(16)
    split[: len(split) // 2] = level
    split[..., 2] = level[2]
    for source in (grey, split):
        for target in (grey, split, image(17)):
            made = moved(source, target, method, 8.0)
            assert np.isfinite(made).all()
            assert np.abs(made).max() < 1e5


def test_grey_takes_mean_and_deviation_of_the_luma_of_the_reference() -> None:
    source, target = image(18)[..., :1], image(19)
    luma = flat(target) @ (0.299, 0.587, 0.114)
    for method in METHODS:
        made = moved(source, target, method)
        assert made.shape == source.shape
        assert made.mean() == pytest.approx(luma.mean(), abs=1e-9)
        assert made.std() == pytest.approx(luma.std(), abs=1e-9)


def test_no_direction_is_stretched_further_than_the_bound() -> None:
    matrix = np.diag((1.0, 6.0, 20.0))
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    turned = rotation @ matrix @ rotation.T
    np.testing.assert_allclose(
        color_maps.limit_gain(turned, 5.0), rotation @ np.diag((1, 5, 5)) @ rotation.T, atol=1e-12
    )
    np.testing.assert_array_equal(color_maps.limit_gain(turned, 21.0), turned)


@pytest.mark.parametrize("method", METHODS)
def test_the_bound_holds_the_noise_of_a_nearly_flat_image(method: Method) -> None:
    noisy = (128 + np.random.default_rng(2).integers(0, 2, (40, 40, 3))).astype(np.uint8)
    assert moved(noisy, image(20), method).std() > 4
    own = l_alpha_beta if method == "reinhard" else np.asarray  # the space each method stretches in
    before, after = own(flat(noisy)), own(flat(moved(noisy, image(20), method, 2.0)))
    widest_before, widest_after = (np.linalg.eigvalsh(np.cov(values.T))[-1] ** 0.5 for values in (before, after))
    assert 0 < widest_after < 2.001 * widest_before


def test_a_large_reference_counts_by_every_second_row_and_column(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = image(21, (40, 60))
    monkeypatch.setattr(color_maps, "MAX_COUNTED", 600)
    np.testing.assert_array_equal(color_maps.statistics(pixels).mean, color_maps.moments(pixels[::2, ::2])[0])
