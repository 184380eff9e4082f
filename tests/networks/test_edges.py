"""Edges of images whose edges are known."""

import pytest
import torch
from torch import Tensor

from pipeline.networks.edges import edges_of, gradients

pytestmark = pytest.mark.usefixtures("one_thread")


def step(size_px: int = 16) -> Tensor:
    """Black on the left, white on the right: one vertical edge in the middle."""
    image = torch.full((1, 1, size_px, size_px), -1.0)
    image[..., size_px // 2 :] = 1.0
    return image


def test_the_gradient_of_a_step_has_the_known_length() -> None:
    across, down = gradients(step().add(1).div(2))
    assert float(across[0, 0, 5, 7]) == float(across[0, 0, 5, 8]) == 4.0
    assert not down.any() and not across[..., :6].any() and not across[..., 10:].any()


def test_sobel_is_two_pixels_wide_and_canny_one() -> None:
    thick, thin = (edges_of(step(), method, (0.4, 0.8)) for method in ("sobel", "canny"))
    assert thick.sum(dim=3).unique().tolist() == [2.0]
    assert thin.sum(dim=3).unique().tolist() == [1.0]
    assert torch.equal(edges_of(step().transpose(2, 3), "canny", (0.4, 0.8)), thin.transpose(2, 3))


def test_a_diagonal_step_is_one_connected_thin_line() -> None:
    rows = torch.arange(24)
    image = torch.where(rows[:, None] > rows[None], 1.0, -1.0)[None, None]
    found = edges_of(image, "canny", (0.4, 0.8))[0, 0, 3:-3]
    assert (found.sum(dim=1) >= 1).all() and (found.sum(dim=1) <= 2).all()


def test_a_faint_line_counts_where_it_goes_on_from_a_strong_one() -> None:
    image = torch.full((1, 1, 32, 32), -1.0)
    image[..., 16:] = torch.linspace(1.0, -0.6, 32)[:, None]  # strong above, faint below
    alone = image.clone()
    alone[..., :20, :] = -1.0
    low, high = 0.3, 1.5
    joined, faint = (edges_of(each, "canny", (low, high))[0, 0, 24, 12:20].sum() for each in (image, alone))
    assert joined == 1 and faint == 0
    assert edges_of(alone, "canny", (low, low))[0, 0, 24, 12:20].sum() == 1


def test_edges_are_the_images_own_in_any_batch_and_of_luma() -> None:
    images = torch.rand(4, 3, 20, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for method in ("canny", "sobel"):
        together = edges_of(images, method, (0.2, 0.4))
        assert together.shape == (4, 1, 20, 20) and set(together.unique().tolist()) == {0.0, 1.0}
        for row in range(4):
            assert torch.equal(edges_of(images[[row]], method, (0.2, 0.4))[0], together[row])
    with pytest.raises(ValueError, match="'hed' are not known; known: canny, sobel"):
        edges_of(images, "hed", (0, 1))
