"""Object masks: drawn, and read from pixels and lists."""

import numpy as np
import pytest

from pipeline.algorithms.masks import centred_mask, mask_from_lists, mask_from_pixels


@pytest.mark.parametrize("shape", ["box", "ellipse"])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.75])
def test_a_drawn_mask_covers_its_share_around_the_middle(shape: str, share: float) -> None:
    mask = centred_mask((90, 160), share, shape)  # type: ignore[arg-type]
    assert mask.shape == (90, 160) and mask[45, 80] and not mask[0, 0]
    assert mask.mean() == pytest.approx(share, abs=0.02)
    np.testing.assert_array_equal(mask, mask[::-1, ::-1])


def test_masks_are_read_from_grey_levels_truths_and_lists() -> None:
    levels = np.array([[[0], [127]], [[128], [255]]], np.uint8)
    assert mask_from_pixels(levels).tolist() == [[False, False], [True, True]]
    assert mask_from_pixels(np.array([[[0], [1]]], np.uint8)).tolist() == [[False, True]]
    assert mask_from_pixels(np.zeros((1, 2, 3), np.uint8)).tolist() == [[False, False]]
    found = mask_from_lists([[0, 2], [0.5, 0]])
    assert found is not None and found.tolist() == [[False, True], [True, False]]
    assert (
        mask_from_lists([[1, 2], [3]]) is None
        and mask_from_lists([1, 2]) is None
        and mask_from_lists(None) is None
        and mask_from_lists("ab") is None
    )
