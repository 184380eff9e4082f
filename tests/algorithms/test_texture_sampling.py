"""Non-parametric sampling: patterns come back, the pixel chosen is the one a plain loop would choose from."""

import numpy as np
import pytest

from pipeline.algorithms.texture_sampling import Sampling, resynthesise, window_weights
from pipeline.contracts import Pixels

HOW = Sampling(window_px=5, error_threshold=0.1, candidates=4096)


def philox(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def holed(size: tuple[int, int], top: int, left: int, height: int, width: int) -> np.ndarray:
    known = np.ones(size, dtype=bool)
    known[top : top + height, left : left + width] = False
    return known


def noise(size: tuple[int, int], channels: int = 1, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)


def chequers(size: tuple[int, int], field: int) -> Pixels:
    rows, columns = np.indices(size) // field
    return np.where((rows + columns) % 2 == 0, 230, 20).astype(np.uint8)[..., None]


def spoilt(image: Pixels, known: np.ndarray) -> Pixels:
    return np.where(known[..., None], image, 77).astype(np.uint8)


@pytest.mark.parametrize("field", [1, 2])
def test_a_hole_in_a_chequerboard_is_filled_with_the_chequerboard(field: int) -> None:
    image, known = chequers((24, 24), field), holed((24, 24), 5, 8, 10, 10)
    np.testing.assert_array_equal(resynthesise(spoilt(image, known), known, philox(), HOW), image)


@pytest.mark.parametrize("turned", [False, True])
def test_stripes_in_colour_come_back(turned: bool) -> None:
    colours = np.array([(250, 10, 10), (10, 250, 10), (10, 10, 250), (200, 200, 0)], dtype=np.uint8)
    image = np.tile(colours[np.arange(26) % 4][:, None], (1, 20, 1))
    known = holed((26, 20), 8, 6, 9, 9)
    if turned:
        image, known = image.transpose(1, 0, 2), known.T
    np.testing.assert_array_equal(resynthesise(spoilt(image, known), known, philox(), HOW), image)


def test_a_chequerboard_grows_from_a_piece_of_it() -> None:
    image = chequers((20, 27), 2)
    known = ~holed((20, 27), 6, 9, 9, 9)
    np.testing.assert_array_equal(resynthesise(spoilt(image, known), known, philox(), HOW), image)


def test_known_pixels_stay_and_the_others_come_from_them() -> None:
    image, known = noise((18, 15), 3, 2), holed((18, 15), 4, 3, 7, 7)
    made = resynthesise(image, known, philox(), HOW)
    np.testing.assert_array_equal(made[known], image[known])
    assert {tuple(pixel) for pixel in made[~known]} <= {tuple(pixel) for pixel in image[known]}
    assert (made[~known] != image[~known]).any()


def test_what_is_under_the_hole_does_not_matter() -> None:
    image, known = noise((16, 16), 1, 3), holed((16, 16), 4, 4, 6, 6)
    np.testing.assert_array_equal(
        resynthesise(image, known, philox(), HOW), resynthesise(spoilt(image, known), known, philox(), HOW)
    )


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5])
def test_one_missing_pixel_is_drawn_from_the_near_enough_windows_alone(threshold: float) -> None:
    image, known = noise((13, 17), 3, 4) // 64 * 64, holed((13, 17), 6, 9, 1, 1)
    weights = np.array(
        [[np.rint(4096 * np.exp(-(y * y + x * x) / (2 * (5 / 6.4) ** 2))) for x in range(-2, 3)] for y in range(-2, 3)]
    )
    weights[2, 2] = 0
    target = image[4:9, 7:12].astype(float)
    distances = {}
    for row in range(2, 11):
        for column in range(2, 15):
            if known[row - 2 : row + 3, column - 2 : column + 3].all():
                window = image[row - 2 : row + 3, column - 2 : column + 3].astype(float)
                distances[row, column] = (weights[..., None] * (window - target) ** 2).sum()
    smallest = min(distances.values())
    allowed = {tuple(image[at]) for at, distance in distances.items() if distance <= (1 + threshold) * smallest}
    how = Sampling(5, threshold, 4096)
    made = {tuple(resynthesise(image, known, philox(seed), how)[6, 9]) for seed in range(200)}
    assert made == allowed  # with 200 draws all of them are seen
    assert threshold < 0.5 or len(allowed) > 1


def test_more_candidates_than_allowed_are_drawn_from() -> None:
    image, known = noise((20, 20), 1, 5), holed((20, 20), 8, 8, 1, 1)
    few = Sampling(5, 0.0, 3)
    assert len({resynthesise(image, known, philox(seed), few)[8, 8, 0] for seed in range(30)}) > 5
    all_of_them = Sampling(5, 0.0, 4096)
    assert len({resynthesise(image, known, philox(seed), all_of_them)[8, 8, 0] for seed in range(30)}) == 1


def test_a_window_shrinks_where_little_is_left() -> None:
    image, known = noise((9, 9), 1, 6), ~holed((9, 9), 3, 3, 2, 2)
    made = resynthesise(image, known, philox(), Sampling(7, 0.1, 100))
    assert {int(level) for level in made.ravel()} <= {int(level) for level in image[known].ravel()}


@pytest.mark.parametrize(("size", "left"), [((1, 40), 10), ((2, 40), 0)])
def test_slivers_are_filled_along_their_length(size: tuple[int, int], left: int) -> None:
    image = np.tile(np.array((20, 120, 220), dtype=np.uint8), 14)[:40][None, :, None].repeat(size[0], axis=0)
    known = holed(size, 0, left, size[0], 5)
    made = resynthesise(spoilt(image, known), known, philox(), HOW)
    np.testing.assert_array_equal(made, image)


def test_weights_are_a_gaussian_in_whole_numbers() -> None:
    weights = window_weights(7, 7)
    assert weights[3, 3] == 4096
    assert weights[3, 4] == weights[4, 3] == np.rint(4096 * np.exp(-0.5 * (6.4 / 7) ** 2))
    np.testing.assert_array_equal(weights, weights[::-1].T)
    assert window_weights(1, 5).tolist() == [window_weights(5, 5)[2].tolist()]
