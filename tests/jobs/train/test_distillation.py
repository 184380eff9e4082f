"""Progressive distillation: targets in closed form, and against the samplers that they stand for."""

import pytest
import torch
from torch import Tensor

from jobs.train.objectives.distillation import distillation_loss, grid_times, mean_velocity
from pipeline.networks.generators.samplers import sample
from pipeline.networks.generators.unet import NULL_LABEL
from tests.networks.generators.test_flow_matching import Straight, network, noise

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = torch.tensor([0, 2, NULL_LABEL, 1])


def linear(images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
    """The velocity a z: an Euler step of length h is a multiplication by 1 - a h."""
    return 0.7 * images


def test_times_are_the_students_grid_each_as_often() -> None:
    found = grid_times(torch.tensor([0.0, 0.2499, 0.25, 0.5, 0.999999, 1.0]), 4)
    assert found.tolist() == [0.25, 0.25, 0.5, 0.75, 1.0, 1.0]
    drawn = grid_times(torch.rand(40_000, generator=torch.Generator().manual_seed(0)), 5)
    assert drawn.mul(5).round().long().bincount().tolist() == pytest.approx([0] + [8000] * 5, abs=300)


@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_path_straight_to_a_point_is_learnt_already(method: str, parts: int) -> None:
    field, times = Straight(noise(4, seed=5).tanh()), torch.tensor([0.25, 0.5, 0.75, 1.0])
    wanted = mean_velocity(field, noise(4), times, LABELS, 4, parts, method=method)
    torch.testing.assert_close(wanted, field(noise(4), times, LABELS))
    assert distillation_loss(field, noise(4), times, LABELS, wanted) < 1e-10


def test_two_steps_of_a_linear_field_are_a_square() -> None:
    images, times = noise(4), torch.tensor([1 / 3, 2 / 3, 1.0, 1 / 3])
    shrunk = (1 - 0.7 / 6) ** 2
    found = mean_velocity(linear, images, times, LABELS, 3, 2)
    torch.testing.assert_close(found, (1 - shrunk) * 3 * images)
    assert distillation_loss(linear, images, times, LABELS, found) > 1e-4


def test_heuns_steps_of_a_linear_field_are_of_second_order_but_the_one_at_the_image() -> None:
    images, step = noise(2), 0.7 / 6
    found = mean_velocity(linear, images, torch.tensor([1 / 3, 1.0]), LABELS[:2], 3, 2, method="heun")
    exact = 1 - step + step**2 / 2
    torch.testing.assert_close(found[0], (1 - exact * (1 - step)) * 3 * images[0])
    torch.testing.assert_close(found[1], (1 - exact**2) * 3 * images[1])


def test_the_target_is_the_papers() -> None:
    net, state, times = network(), noise(4), torch.tensor([0.25, 0.5, 0.75, 1.0])
    found = mean_velocity(net, state, times, LABELS, 4, 2)
    halfway = state - net(state, times, LABELS) / 8
    ended = halfway - net(halfway, times - 1 / 8, LABELS) / 8
    ratio = ((times - 1 / 4) / times).view(-1, 1, 1, 1)
    image = (ended - ratio * state) / (1 - ratio)  # algorithm 2, with alpha = 1 - t and sigma = t
    torch.testing.assert_close(state - times.view(-1, 1, 1, 1) * found, image, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_one_step_from_noise_to_image_ends_where_the_sampler_does(method: str, guidance: float) -> None:
    net, start = network(), noise(4)
    found = start - mean_velocity(net, start, torch.ones(4), LABELS, 1, 6, guidance, method)
    torch.testing.assert_close(found, sample(net, start, LABELS, 6, guidance, method), atol=1e-5, rtol=1e-4)
    if guidance != 1:
        plain = start - mean_velocity(net, start, torch.ones(4), LABELS, 1, 6, 1.0, method)
        differs = (plain - found).abs().flatten(1).amax(1) > 1e-3
        assert differs.tolist() == [True, True, False, True]  # what has no class is not guided


def test_the_loss_counts_the_distance_of_where_steps_end() -> None:
    net, other, times = network(), network(seed=3), torch.tensor([0.25, 0.5, 0.75, 1.0])
    wanted = mean_velocity(other, noise(4), times, LABELS, 4, 2)
    ends = (noise(4) - net(noise(4), times, LABELS) / 4, noise(4) - wanted / 4)
    found = distillation_loss(net, noise(4), times, LABELS, wanted)
    torch.testing.assert_close(found, 16 * (ends[0] - ends[1]).square().mean())


def test_an_unknown_method_and_no_parts_are_errors() -> None:
    for method, parts in (("adams", 2), ("euler", 0)):
        with pytest.raises(ValueError, match="known: euler, heun, with 1 part or more"):
            mean_velocity(linear, noise(1), torch.ones(1), LABELS[:1], 1, parts, method=method)
