"""Quilting: the cut is the cheapest one, the block the nearest one, and the texture stays the texture."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.algorithms.quilting import (
    Quilting,
    TextureTable,
    cheapest_cut,
    luma_levels,
    luma_span,
    match_luma_span,
    quilt,
)
from pipeline.contracts import Pixels


def noise(size: tuple[int, int], channels: int = 1, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)


def laid(
    texture: Pixels,
    guide: Pixels,
    alpha: float,
    block: int = 4,
    overlap: int = 2,
    passes: int = 1,
    candidates: int = 40,
) -> Pixels:
    """One image [H, W, C]."""
    table, how = TextureTable([texture]), Quilting(block, overlap, candidates, passes)
    return quilt(table, np.array([0]), guide[None], np.array([alpha]), [3], how)[0]


# ---- the cut ---------------------------------------------------------------------------------------------------------


def paths(length: int, span: int) -> Iterator[tuple[int, ...]]:
    """Every path whose neighbours are at most 1 apart."""
    for path in itertools.product(range(span), repeat=length):
        if all(abs(one - other) <= 1 for one, other in itertools.pairwise(path)):
            yield path


@pytest.mark.parametrize(("length", "span"), [(1, 1), (1, 4), (5, 1), (5, 2), (6, 4)])
def test_the_cut_is_the_cheapest_of_all_paths(length: int, span: int) -> None:
    errors = np.random.default_rng(length * 10 + span).integers(0, 1000, (30, length, span)).astype(float)
    found = cheapest_cut(errors)
    assert found.shape == (30, length)
    for costs, path in zip(errors, found, strict=True):
        assert all(abs(one - other) <= 1 for one, other in itertools.pairwise(path))
        best = min(sum(costs[row, column] for row, column in enumerate(every)) for every in paths(length, span))
        assert costs[np.arange(length), path].sum() == best


def test_the_cut_follows_a_groove() -> None:
    errors = np.full((1, 5, 4), 9.0)
    groove = [2, 3, 2, 1, 0]
    errors[0, np.arange(5), groove] = 0
    assert cheapest_cut(errors)[0].tolist() == groove


# ---- the blocks ------------------------------------------------------------------------------------------------------


def test_every_pixel_comes_from_the_texture() -> None:
    texture = noise((20, 30), 3, 1)
    made = laid(texture, noise((25, 33), seed=2)[..., 0], 0.3)
    assert made.shape == (25, 33, 3)
    known = {tuple(pixel) for pixel in texture.reshape(-1, 3)}
    assert {tuple(pixel) for pixel in made.reshape(-1, 3)} <= known


def test_synthesis_of_a_texture_that_repeats_shows_no_seam() -> None:
    period = noise((3, 3), 3, 4)
    made = laid(np.tile(period, (6, 6, 1)), np.zeros((31, 26), dtype=np.uint8), 1.0, candidates=400)
    first = next(
        (row, column) for row in range(3) for column in range(3)
        if (np.roll(period, (-row, -column), (0, 1))[0, 0] == made[0, 0]).all()
    )  # fmt: skip
    wanted = np.tile(np.roll(period, (-first[0], -first[1]), (0, 1)), (11, 9, 1))[:31, :26]
    np.testing.assert_array_equal(made, wanted)


def test_with_alpha_0_each_block_is_the_candidate_nearest_in_luma() -> None:
    texture, guide = noise((12, 15), 1, 5), noise((4, 4), seed=6)[..., 0]
    made = laid(texture, guide, 0.0, candidates=500)  # 108 places: with 500 draws about all of them
    corners = itertools.product(range(9), range(12))
    distances = [((texture[y : y + 4, x : x + 4, 0].astype(int) - guide) ** 2).sum() for y, x in corners]
    assert ((made[..., 0].astype(int) - guide) ** 2).sum() == min(distances)


@pytest.mark.parametrize(("alpha", "wanted"), [(0.45, 200), (0.55, 100)])
def test_alpha_weighs_the_overlap_against_the_guide(alpha: float, wanted: int) -> None:
    # The texture is dark and bright with black between. The first block is dark, for three of its four columns are
    # asked to be; the second is asked to be bright. A dark one costs (1 - alpha) 100^2 there, a bright one, whose
    # overlap of one column differs, alpha 100^2.
    texture = np.repeat(np.array((100, 0, 200), dtype=np.uint8), 12).reshape(1, 36, 1).repeat(8, axis=0)
    guide = np.repeat(np.array((100, 200), dtype=np.uint8), (3, 4))[None].repeat(4, axis=0)
    made = laid(texture, guide, alpha, overlap=1, candidates=300)[..., 0]
    assert made[0, 0] == 100
    assert made[0, -1] == wanted


def test_a_picture_follows_the_guide_the_better_the_smaller_alpha_is() -> None:
    rows = np.linspace(0, 255, 40)
    guide = np.rint(np.add.outer(rows, rows) / 2).astype(np.uint8)
    texture = noise((40, 40), 1, 7) // 4 + np.linspace(0, 190, 40).astype(np.uint8)[:, None]
    errors = [
        float(((laid(texture, guide, alpha, candidates=200)[..., 0].astype(float) - guide) ** 2).mean())
        for alpha in (0.0, 0.5, 1.0)
    ]
    assert errors[0] < errors[1] < errors[2]


def test_further_passes_have_smaller_blocks_and_larger_alphas() -> None:
    how = Quilting(18, 6, 10, 3)
    assert how.sizes() == [(18, 6), (12, 4), (8, 3)]
    assert [float(alpha[0]) for alpha in how.alphas(np.array([0.9]))] == pytest.approx([0.1, 0.5, 0.9])
    assert Quilting(4, 2, 10, 5).sizes()[-1] == (3, 1)
    assert Quilting(8, 2, 10).alphas(np.array([0.3]))[0] == 0.3


def test_a_further_pass_leaves_what_fits_as_it_is() -> None:
    red = np.arange(72, 128, 7)[np.random.default_rng(8).permutation(8)]
    colours = np.stack([red, np.full(8, 100), np.rint(100 - (red - 100) * 0.299 / 0.114)], axis=1).astype(np.uint8)
    texture = np.tile(colours.reshape(2, 4, 3), (9, 5, 1))
    assert (luma_levels(texture) == 100).all()  # so every guide is followed alike, whatever alpha
    guide = noise((20, 20), seed=9)[..., 0]
    once, twice = (laid(texture, guide, 1.0, 6, 2, passes, candidates=300) for passes in (1, 2))
    np.testing.assert_array_equal(once, twice)


def test_a_further_pass_follows_the_guide_more_closely() -> None:
    texture, guide = noise((40, 40), 1, 10), noise((30, 30), seed=11)[..., 0]
    errors = [((laid(texture, guide, 0.1, 9, 3, n)[..., 0].astype(float) - guide) ** 2).mean() for n in (1, 3)]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 3), (4, 4), (5, 7)])
def test_images_of_any_size_are_covered(size: tuple[int, int]) -> None:
    made = laid(noise((9, 9), 3, 11) // 2 + 100, np.zeros(size, dtype=np.uint8), 0.5)
    assert made.shape == (*size, 3)
    assert made.min() >= 100  # no pixel is left black


def test_textures_of_different_sizes_share_a_table() -> None:
    textures = [np.full((5, 9, 3), 10, dtype=np.uint8), np.full((8, 4, 3), 20, dtype=np.uint8), noise((6, 6), 3, 12)]
    guides = np.zeros((3, 10, 10), dtype=np.uint8)
    made = quilt(TextureTable(textures), np.array([1, 0, 2]), guides, np.full(3, 0.5), [1, 2, 3], Quilting(4, 1, 30))
    assert (made[0] == 20).all() and (made[1] == 10).all()
    known = {tuple(pixel) for pixel in textures[2].reshape(-1, 3)}
    assert {tuple(pixel) for pixel in made[2].reshape(-1, 3)} <= known


# ---- luma ------------------------------------------------------------------------------------------------------------


def test_luma_is_weighed_and_rounded() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 20, 30]]], dtype=np.uint8)
    assert luma_levels(pixels).tolist() == [[76, 150, 29, 255, 18]]


def test_the_span_leaves_out_one_pixel_in_a_hundred() -> None:
    luma = np.full(1000, 100, dtype=np.uint8)
    luma[:300], luma[300:305], luma[-300:], luma[500:505] = 50, 0, 150, 255
    assert luma_span(luma) == (50, 150)
    dot = np.zeros(1000, dtype=np.uint8)
    dot[3] = 200
    assert luma_span(dot) == (0, 200)  # else it would be one level


def test_stretching_moves_the_span_and_keeps_a_constant_in_the_middle() -> None:
    ramp = np.arange(50, 151, dtype=np.uint8)
    assert luma_span(match_luma_span(ramp, (0, 200))) == (0, 200)
    np.testing.assert_array_equal(match_luma_span(np.full((3, 3), 9, dtype=np.uint8), (100, 201)), np.full((3, 3), 150))
