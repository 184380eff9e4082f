"""DiffusionInpaint: real pipelines made tiny; what stays, stays to the byte."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from palimpsest.testing.operators import CLASSES, OperatorConformance, act, assert_near, make_batch
from pipeline.contracts import Assets, ImageBatch
from pipeline.errors import InputError, RecipeError
from pipeline.operators.diffusion.diffusion_inpaint import DiffusionInpaint, DiffusionInpaintParams
from pipeline.validation import parse
from tests.fixtures.tiny_models import OWN_WARNING
from tests.operators.diffusion.test_diffusion_generate import assets_in

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]
KINDS = ("inpaint", "stable", "large", "third", "dit", "pixel", "file")


class TestDiffusionInpaintConformance(OperatorConformance):
    operator = DiffusionInpaint
    params: ClassVar = {"model": "tiny.safetensors", "steps": 4, "strength_range": [0.5, 1.0]}
    tolerance = 1

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder)


class TestInpaintPipelineConformance(OperatorConformance):
    operator = DiffusionInpaint
    params: ClassVar = {"model": "inpaint", "steps": 3, "strength_range": [0.5, 1.0], "prompt": "a {label}"}
    tolerance = 1
    sizes: ClassVar = ((28, 28), (7, 33))

    @pytest.fixture(autouse=True)
    def _folder(self, tiny: Callable[[str], Path]) -> None:
        self.folder = tiny("inpaint")

    def assets(self, folder: Path) -> Assets:
        return Assets(models={"model": self.folder})


@pytest.fixture
def opened(tiny: Callable[[str], Path], tmp_path: Path) -> Callable[..., DiffusionInpaint]:
    def load(kind: str, **params: Any) -> DiffusionInpaint:
        operator = DiffusionInpaint(DiffusionInpaintParams(**{"steps": 4, "prompt": "a {label}"} | params))
        operator.load("cpu", assets_in(tmp_path) if kind == "file" else Assets(models={"model": tiny(kind)}))
        return operator

    return load


def png(mask: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(mask).save(data, "PNG")
    return data.getvalue()


def with_masks(cells: list[Any], size: tuple[int, int] = (20, 24)) -> ImageBatch:
    batch = make_batch(list(range(len(cells))), size, 3)
    return ImageBatch(batch.images, batch.seeds, batch.labels, CLASSES, {"object_mask": cells})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", ["object", "background"])
def test_what_stays_is_the_sources_to_the_byte_and_the_rest_is_new(
    kind: str, keep: str, opened: Callable[..., DiffusionInpaint]
) -> None:
    operator = opened(kind, shape="box", object_share_range=(0.25, 0.25), keep=keep)
    batch = make_batch([0, 1, 2], (24, 32), 3)
    assert batch.images is not None
    images = act(operator, batch).images
    inside = np.zeros((24, 32), dtype=bool)
    inside[6:18, 8:24] = True
    stays = inside if keep == "object" else ~inside
    assert images.shape == batch.images.shape
    np.testing.assert_array_equal(images[:, stays], batch.images[:, stays])
    assert (images[:, ~stays] != batch.images[:, ~stays]).mean() > 0.5
    assert_near(act(operator, make_batch([1], (24, 32), 3)).images[0], images[1], 1)


def test_a_mask_column_of_images_structs_or_lists_is_the_object(opened: Callable[..., DiffusionInpaint]) -> None:
    mask = np.zeros((20, 24), np.uint8)
    mask[2:9, 3:20] = 255
    cells = [png(mask), {"bytes": png(mask), "path": None}, (mask > 0).tolist(), png(mask // 255)]
    operator = opened("inpaint", mask="object_mask")
    batch = with_masks(cells)
    assert batch.images is not None
    draws = operator.draw(batch)
    assert len(set(draws.columns["mask_sha256"])) == 1
    applied = act(operator, batch, draws)
    assert not applied.errors
    np.testing.assert_array_equal(applied.images[:, mask > 0], batch.images[:, mask > 0])
    assert (applied.images[:, mask == 0] != batch.images[:, mask == 0]).mean() > 0.5


def test_masks_that_cannot_be_used_are_errors_of_their_rows_alone(opened: Callable[..., DiffusionInpaint]) -> None:
    good = np.full((20, 24), 255, np.uint8)
    cells = [
        png(good),
        png(good[:, :-1]),
        None,
        b"no image",
        [[1, 2], [3]],
        good[1:].tolist(),
        png(good // np.uint16(255)),
    ]
    applied = act(opened("inpaint", mask="object_mask"), with_masks(cells))
    codes = {row: error.code for row, error in applied.errors.items()}
    assert codes == {
        1: "mask_size",
        2: "no_mask",
        3: "not_an_image",
        4: "no_mask",
        5: "mask_size",
        6: "ambiguous_depth",
    }
    assert "the mask is 23 x 20 px, the image 24 x 20 px" in str(applied.errors[1])
    assert "store masks with 8 bits" in str(applied.errors[6])


def test_a_mask_column_that_is_not_there_is_one_clear_line(opened: Callable[..., DiffusionInpaint]) -> None:
    with pytest.raises(InputError, match=r"there is no column 'eye_mask' \(columns: object_mask; "):
        opened("inpaint", mask="eye_mask").draw(with_masks([None]))


def test_the_share_of_the_object_is_drawn_within_its_range(opened: Callable[..., DiffusionInpaint]) -> None:
    operator = opened("file", object_share_range=(0.2, 0.4))
    shares = np.array(operator.draw(make_batch(list(range(500)), (20, 20))).columns["object_share"])
    assert shares.min() >= 0.2 and shares.max() <= 0.4 and abs(shares.mean() - 0.3) < 0.015
    with pytest.raises(RecipeError, match=r"object_share_range = .*within \(0, 0\.79\]"):
        parse(DiffusionInpaintParams, {"object_share_range": [0.5, 0.9]}, "diffusion_inpaint")


def test_what_the_model_fails_at_is_rejected_whatever_was_kept(opened: Callable[..., DiffusionInpaint]) -> None:
    operator = opened("file")
    operator._backend.net.label.weight[1] = np.nan
    applied = act(operator, make_batch([0, 1, 2], (8, 8)))
    assert applied.rejected == {1: "non_finite"}
