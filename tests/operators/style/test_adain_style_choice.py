"""AdaINStyle: which styles are drawn and mixed, where they reach, and what is refused on the way."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from palimpsest.testing.operators import OperatorConformance, act, make_batch
from pipeline.contracts import Assets, ImageBatch
from pipeline.errors import InputError, JobError, ModelError, RecipeError
from pipeline.model_files.references import ASSETS
from pipeline.networks.style import adain
from pipeline.operators.style.adain_style import AdaINStyle, AdaINStyleParams
from pipeline.validation import parse
from tests.fixtures.reference_images import encoded, style
from tests.operators.style.test_adain_style import assets_in, loaded

pytestmark = pytest.mark.usefixtures("one_thread")


class TestAdaINStyleOfARegionConformance(OperatorConformance):
    operator = AdaINStyle
    params: ClassVar = {"style_size_px": 32, "mask": "drawn", "keep": "object"}
    tolerance = 2

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder, style(1), style(2, (24, 90)))


class TestAdaINStyleOfTwoRegionsConformance(OperatorConformance):
    operator = AdaINStyle
    params: ClassVar = {
        "style_size_px": 32, "mask": "drawn", "keep": "none", "styles_per_image": 2, "mixing_weights": [3, 1],
        "style_weights": {"style-1.png": 2.5},
    }  # fmt: skip
    tolerance = 2

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder, style(1), style(2, (24, 90)), style(3, channels=1))


# ---- which styles ----------------------------------------------------------------------------------------------------


def test_styles_are_drawn_by_their_weights(tmp_path: Path) -> None:
    weights = {"style-0.png": 0, "style-2.png": 3}
    operator = loaded(tmp_path, *(style(index) for index in range(3)), style_weights=weights)
    counts = Counter(operator.draw(make_batch(list(range(2000)), (1, 1))).columns["style_name"])
    assert set(counts) == {"style-1.png", "style-2.png"}
    assert abs(counts["style-2.png"] - 1500) < 3.3 * (2000 * 0.75 * 0.25) ** 0.5  # p = 0.001


def test_mixing_weights_are_taken_in_proportion(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), style(2), styles_per_image=2, mixing_weights=(3, 1))
    draws = operator.draw(make_batch(list(range(20)), (1, 1)))
    assert draws.columns["weights"] == [[0.75, 0.25]] * 20
    assert {tuple(names) for names in draws.columns["style_name"]} == {
        (f"style-{one}.png", f"style-{two}.png") for one in (1, 2) for two in (1, 2)
    }


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"style_weights": {"a.png": -1}}, r"adain_style.style_weights.a.png = -1: .*greater than or equal to 0"),
        ({"style_weights": {"a.png": float("inf")}}, r"style_weights.a.png = inf: .*finite number"),
        ({"mixing_weights": [1, 2]}, r"mixing_weights = \[1, 2\]: needs one weight for each of styles_per_image = 1"),
        ({"styles_per_image": 2, "mixing_weights": [0, 0]}, r"styles_per_image = 2, not all 0"),
        ({"keep": "none"}, r"keep = 'none': says what a mask keeps; give mask: drawn"),
        ({"mask": "drawn", "object_share_range": [0.1, 0.9]}, r"object_share_range = .*within \(0, 0.79\]"),
    ],
)
def test_a_wrong_choice_is_one_line(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(AdaINStyleParams, params, "adain_style")


def test_a_weight_for_no_style_names_the_nearest_and_all_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"style_weights: no style is called 'style-7.pn' \(did you mean 'style-7.png'"):
        loaded(tmp_path, style(1), style(7), style_weights={"style-7.pn": 1})
    with pytest.raises(JobError, match="style_weights: every style weighs 0"):
        loaded(tmp_path, style(1), style_weights={"style-1.png": 0})


# ---- where they reach ------------------------------------------------------------------------------------------------


def with_masks(cells: list[Any], size: tuple[int, int] = (24, 32)) -> ImageBatch:
    batch = make_batch(list(range(len(cells))), size, 3)
    return ImageBatch(batch.images, batch.seeds, batch.labels, columns={"object_mask": cells})


@pytest.mark.parametrize("keep", ["object", "background"])
def test_what_is_kept_is_the_source_to_the_byte_and_the_rest_is_restyled(keep: str, tmp_path: Path) -> None:
    mask = np.zeros((24, 32), dtype=bool)
    mask[4:15, 6:20] = True
    batch = with_masks([mask.tolist(), {"bytes": encoded(mask[..., None] * np.uint8(255)), "path": None}])
    assert batch.images is not None
    operator = loaded(tmp_path, style(1), style(2), mask="object_mask", keep=keep, alpha_range=(1, 1))
    draws = operator.draw(batch)
    made = act(operator, batch, draws)
    kept = mask if keep == "object" else ~mask
    np.testing.assert_array_equal(made.images[:, kept], batch.images[:, kept])
    assert np.abs(made.images[:, ~kept].astype(int) - batch.images[:, ~kept]).mean() > 10
    assert not made.errors and not made.rejected
    assert len(set(draws.columns["mask_sha256"])) == 1  # the same mask, as a list and as an image
    assert json.dumps(draws.row(0))


def test_object_and_background_take_a_style_each(tmp_path: Path) -> None:
    """With the shipped networks: the red style reaches the object and the blue one the rest, or the reverse."""
    colours = {}
    for name, channel in (("red.png", 0), ("blue.png", 2)):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[::8, :, channel] = 120
        pixels[4::8, :, channel] = 255
        data = encoded(pixels)
        colours[name] = type(style(0))(f"/{name}", f"{name:*<64}", data)
    params = AdaINStyleParams(style_size_px=64, mask="drawn", keep="none", shape="box", alpha_range=(1, 1))
    operator = AdaINStyle(params)
    shipped = {"model": ASSETS / "models" / "adain.safetensors"}
    operator.load("cpu", Assets(shipped, {"styles": list(colours.values())}))
    batch = make_batch(list(range(12)), (64, 64), 3)
    draws = operator.draw(batch)
    images = act(operator, batch, draws).images.astype(int)
    middle, corner = images[:, 24:40, 24:40].mean(axis=(1, 2)), images[:, :8, :8].mean(axis=(1, 2))
    inside, outside = draws.columns["style_name"], draws.columns["background_style_name"]
    assert ("red.png", "blue.png") in set(zip(inside, outside, strict=True))
    assert ("blue.png", "red.png") in set(zip(inside, outside, strict=True))
    for index, (one, other) in enumerate(zip(inside, outside, strict=True)):
        for found, name in ((middle, one), (corner, other)):
            reddest = found[index, 0] > found[index, 2]
            assert reddest == (name == "red.png"), (index, name, found[index])
    assert draws.partners is not None
    for index, partners in enumerate(draws.partners):
        assert {partner.source_uri for partner in partners} == {f"/{inside[index]}", f"/{outside[index]}"}


def test_a_mask_of_another_size_or_none_is_the_error_of_its_row(tmp_path: Path) -> None:
    good, other = np.ones((24, 32)).tolist(), np.ones((12, 16)).tolist()
    batch = with_masks([good, other, None, {"bytes": b"no image", "path": None}, good])
    operator = loaded(tmp_path, style(1), mask="object_mask", keep="background", alpha_range=(1, 1))
    draws = operator.draw(batch)
    made = act(operator, batch, draws)
    assert {row: error.code for row, error in made.errors.items()} == {1: "mask_size", 2: "no_mask", 3: "not_an_image"}
    assert "16 x 12 px, the image 32 x 24 px" in made.errors[1].message
    assert [value is None for value in draws.columns["mask_sha256"]] == [False, True, True, True, False]


def test_a_mask_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), mask="masks", keep="object")
    with pytest.raises(InputError, match=r"adain_style.mask: there is no column 'masks' \(columns: object_mask"):
        operator.draw(with_masks([None]))


def test_an_image_that_failed_stays_black_where_it_would_be_kept(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), mask="drawn")
    operator._mean[:] = torch.nan
    made = act(operator, make_batch([0, 1], (32, 32), 3))
    assert made.rejected == {0: "non_finite", 1: "non_finite"}
    assert not made.images.any()


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_an_encoder_and_a_decoder_of_two_models_are_refused(tmp_path: Path) -> None:
    torch.save(adain.build_encoder(4).state_dict(), tmp_path / "encoder.pth")
    for width, levels in ((8, 4), (8, 3)):  # 4 * 8 channels at three levels are 8 * 4 at four
        torch.save(adain.build_decoder(width, levels).state_dict(), tmp_path / "decoder.pth")
        operator = AdaINStyle(AdaINStyleParams(encoder="encoder.pth", decoder="decoder.pth"))
        files = {"encoder": tmp_path / "encoder.pth", "decoder": tmp_path / "decoder.pth"}
        with pytest.raises(ModelError, match="give two that were trained together") as caught:
            operator.load("cpu", Assets(files, {"styles": [style(1)]}))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 500)])
@pytest.mark.parametrize("flat", [False, True])
def test_one_pixel_slivers_and_flat_images_are_restyled(size: tuple[int, int], flat: bool, tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), reference_of_one_colour())
    for mask in (None, "drawn"):
        operator = loaded(tmp_path, style(1), reference_of_one_colour(), mask=mask)
        made = act(operator, make_batch(list(range(4)), size, 3, level=77 if flat else None))
        assert made.images.shape == (4, *size, 3)
        assert not made.rejected and not made.errors


def reference_of_one_colour() -> Any:
    from tests.fixtures.reference_images import reference

    return reference(np.asarray(Image.new("RGB", (20, 20), (200, 30, 30))), "flat.png")
