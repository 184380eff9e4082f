"""TextureQuilt: real image files as textures, laid over images of any size."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from palimpsest.testing.operators import OperatorConformance, act, make_batch
from pipeline.contracts import Assets, Draws, ImageBatch, Pixels, ReferenceImage, Requirements
from pipeline.errors import JobError, RecipeError
from pipeline.operators.texture.texture_quilt import TextureQuilt, TextureQuiltParams
from pipeline.validation import parse
from tests.fixtures.reference_images import no_image, reference, style

TINY = {"texture_size_px": 16, "candidates": 6}


class TestTextureQuiltConformance(OperatorConformance):
    operator = TextureQuilt
    params: ClassVar = TINY

    def assets(self, folder: Path) -> Assets:
        return Assets(images={"textures": [style(1), style(2, (24, 90)), style(3, channels=1)]})


class TestTextureQuiltInPassesConformance(TestTextureQuiltConformance):
    params: ClassVar = {**TINY, "passes": 3, "block_px": 8, "overlap_px": 4, "match_luma": False}


class TestTextureQuiltSynthesisConformance(TestTextureQuiltConformance):
    params: ClassVar = {**TINY, "mode": "synthesis"}


def loaded(*textures: ReferenceImage, **params: Any) -> TextureQuilt:
    operator = TextureQuilt(TextureQuiltParams(**{**TINY, **params}))
    operator.load("cpu", Assets(images={"textures": textures}))
    return operator


def bands(channels: int = 3) -> ReferenceImage:
    """Dark to bright in four colours, 64 x 64 px."""
    colours = np.array([(10, 20, 30), (90, 60, 20), (120, 160, 130), (240, 230, 250)], dtype=np.uint8)
    image = colours[np.repeat(np.arange(4), 16)][None].repeat(64, axis=0)
    return reference(image[..., :channels], "bands.png")


def pair() -> Pixels:
    """Half black, half white, either way round: [2, 28, 28, 1]."""
    image = np.zeros((28, 28, 1), dtype=np.uint8)
    image[:, 14:] = 255
    return np.stack([image, image[:, ::-1]])


def batch_of(images: Pixels) -> ImageBatch:
    return ImageBatch(images, list(range(len(images))), np.zeros(len(images), dtype=np.int64))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_texture_is_dark_where_the_image_is_dark(channels: int) -> None:
    operator = loaded(bands(), texture_size_px=64, candidates=64, alpha_range=(0.1, 0.1))
    made = act(operator, batch_of(pair().repeat(channels, axis=3))).images
    assert made.shape == (2, 28, 28, channels)
    for one, image in zip(made.mean(axis=3), pair()[..., 0], strict=True):
        assert one[image == 255].mean() - one[image == 0].mean() > 150


def test_synthesis_does_not_look_at_the_image_and_draws_alpha_1() -> None:
    operator = loaded(bands(), mode="synthesis")
    batch = batch_of(pair())
    draws = operator.draw(batch)
    assert draws.columns["alpha"] == [1.0, 1.0]
    other = ImageBatch(255 - pair(), batch.seeds, batch.labels)
    np.testing.assert_array_equal(act(operator, batch, draws).images, act(operator, other, draws).images)


def test_another_seed_lays_other_blocks() -> None:
    operator = loaded(style(1))
    batch = batch_of(pair())
    draws = operator.draw(batch)
    seeds = [seed + 1 for seed in draws.columns["seed"]]
    other = Draws({**draws.columns, "seed": seeds}, draws.partners)
    assert (act(operator, batch, draws).images != act(operator, batch, other).images).mean() > 0.2


def test_a_grey_image_gets_the_full_range_of_a_dull_texture() -> None:
    dull = np.linspace(100, 140, 64).astype(np.uint8)[None, :, None].repeat(64, axis=0)
    operator = loaded(reference(dull, "dull.png"), texture_size_px=64, candidates=128, alpha_range=(0, 0))
    made = act(operator, batch_of(pair())).images
    assert made.min() < 20 and made.max() > 235
    colour = act(operator, batch_of(pair().repeat(3, axis=3))).images
    assert colour.min() >= 99 and colour.max() <= 141


def test_without_matching_a_bright_image_takes_the_brightest_of_the_texture() -> None:
    batch = batch_of(np.full((1, 28, 28, 3), 255, dtype=np.uint8))
    matched, plain = (
        act(loaded(bands(), texture_size_px=64, candidates=64, alpha_range=(0, 0), match_luma=match), batch).images
        for match in (True, False)
    )
    assert plain.mean() > 200
    assert matched.mean() < 180  # a constant image has the middle of every range


def test_textures_keep_their_proportions() -> None:
    table = loaded(style(1, (90, 30)), texture_size_px=20)._tables[3]
    assert (table.heights.tolist(), table.widths.tolist()) == ([20], [60])


def test_draws_name_the_texture_and_stay_in_range() -> None:
    operator = loaded(style(1), style(2), alpha_range=(0.2, 0.4))
    draws = operator.draw(make_batch(list(range(300)), (1, 1)))
    alphas = np.array(draws.columns["alpha"])
    assert alphas.min() >= 0.2 and alphas.max() < 0.4 and alphas.mean() == pytest.approx(0.3, abs=0.02)
    assert set(draws.columns["texture_name"]) == {"style-1.png", "style-2.png"}
    assert len(set(draws.columns["seed"])) == 300
    assert draws.partners is not None
    for key, (partner,) in zip(draws.columns["texture"], draws.partners, strict=True):
        assert partner.role == "style" and partner.sha256.startswith(key)


@pytest.mark.parametrize("size", [(1, 400), (400, 1)])
def test_slivers_are_covered(size: tuple[int, int]) -> None:
    made = act(
        loaded(reference(np.full((20, 20, 3), 200, dtype=np.uint8), "flat.png")), make_batch([0], size, 3)
    ).images
    assert (made == 200).all()


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"block_px": 8, "overlap_px": 5}, r"overlap_px = 5: needs at most half of block_px, 4"),
        ({"block_px": 32, "texture_size_px": 16}, r"block_px = 32: needs at most texture_size_px, 16"),
        ({"alpha_range": (0.5, 1.2)}, r"alpha_range = .*within \[0, 1\]"),
        ({"mode": "both"}, r"mode = 'both': .*'transfer' or 'synthesis'"),
        ({"candidates": 0}, r"candidates = 0"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"texture_quilt.{message}"):
        parse(TextureQuiltParams, params, "texture_quilt")


def test_the_default_overlap_must_fit_a_given_block() -> None:
    assert TextureQuiltParams(block_px=4).overlap_px == 2


def test_needs_are_the_textures() -> None:
    operator = TextureQuilt(TextureQuiltParams(textures="cloth/"))
    assert operator.requirements() == Requirements(images={"textures": "cloth/"})


def test_a_texture_that_is_no_image_is_named() -> None:
    with pytest.raises(JobError, match=r"texture_quilt.textures: /pictures/notes.txt: not usable as a texture"):
        loaded(style(1), no_image())


def test_no_texture_at_all_is_an_error_of_the_job() -> None:
    with pytest.raises(JobError, match=r"texture_quilt.textures = 'builtin:styles': there is no image in it"):
        loaded()


def test_a_texture_of_the_lineage_that_is_gone_is_named() -> None:
    operator = loaded(style(1))
    draws = operator.draw(make_batch([0]))
    gone = Draws({**draws.columns, "texture": ["feed" * 4]})
    with pytest.raises(JobError, match="texture feedfeedfeedfeed of the lineage is not in it"):
        act(operator, make_batch([0]), gone)


def test_no_images_is_an_error_of_the_job() -> None:
    empty = ImageBatch(images=None, seeds=[1], labels=np.array([0]))
    with pytest.raises(JobError, match="no images to quilt"):
        act(loaded(style(1)), empty)


def test_draw_before_load_says_so() -> None:
    with pytest.raises(RuntimeError, match="load comes before draw"):
        TextureQuilt(TextureQuiltParams()).draw(make_batch([0]))
