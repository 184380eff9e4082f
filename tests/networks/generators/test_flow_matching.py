"""Flow matching and its samplers: real networks made tiny, known answers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.diffusion.strength import step_count
from pipeline.errors import ModelError
from pipeline.model_files import model_file
from pipeline.model_files.class_labels import class_indexes
from pipeline.networks.generators import samplers
from pipeline.networks.generators.flow_matching import (
    drop_labels,
    flow_loss,
    interpolate_to_noise,
    load_flow,
    logit_normal_times,
    save_flow,
)
from pipeline.networks.generators.unet import UNet, UNetShape
from pipeline.networks.pixel_tensors import flaws, from_pixels, to_pixels, with_channels, with_size

TINY = UNetShape(size_px=8, classes=3, widths=(4, 8), groups=2, heads=2, embedding=8)


pytestmark = pytest.mark.usefixtures("one_thread")


def network(shape: UNetShape = TINY, seed: int = 0) -> UNet:
    """A U-Net none of whose layers is silent."""
    torch.manual_seed(seed)
    net = UNet(shape).eval().requires_grad_(False)
    for parameter in net.parameters():
        if parameter.dim() > 1 and not parameter.any():
            parameter.normal_(std=0.3)
    return net


def noise(count: int, shape: UNetShape = TINY, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, shape.channels, shape.size_px, shape.size_px, generator=generator)


class Straight:
    """The velocity of a path that ends in one known image, whatever the start: (x - target) / t."""

    def __init__(self, target: Tensor) -> None:
        self.target = target
        self.calls: list[int] = []

    def __call__(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        self.calls.append(len(images))
        return (images - self.target) / times.view(-1, 1, 1, 1)


# ---- path and loss ---------------------------------------------------------------------------------------------------


def test_the_path_leads_from_image_to_noise() -> None:
    images, far = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    points = interpolate_to_noise(images, far, torch.tensor([0.0, 0.25, 1.0]))
    assert points[:, 0, 0, 0].tolist() == [0.0, 0.25, 1.0]


def test_the_loss_is_zero_for_the_true_velocity_alone() -> None:
    images, far, times = noise(4, seed=2), noise(4, seed=3), torch.tensor([0.1, 0.4, 0.6, 0.9])
    labels = torch.zeros(4, dtype=torch.int64)
    assert float(flow_loss(lambda *_: far - images, images, labels, far, times)) == 0
    assert float(flow_loss(lambda *_: far - images + 2, images, labels, far, times)) == pytest.approx(4)


def test_times_are_most_often_in_the_middle() -> None:
    times = logit_normal_times(torch.randn(20_000, generator=torch.Generator().manual_seed(0)))
    assert float(times.min()) > 0 and float(times.max()) < 1
    inside = ((times > 0.2689) & (times < 0.7311)).float().mean()  # one standard deviation
    assert float(inside) == pytest.approx(0.6827, abs=0.01)


def test_the_share_of_labels_left_out_is_the_one_asked_for() -> None:
    kept = drop_labels(torch.tensor([2, 1, 0]), torch.tensor([0.05, 0.1, 0.9]), 0.1)
    assert kept.tolist() == [-1, 1, 0]


# ---- samplers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", samplers.METHODS)
def test_a_straight_path_is_followed_exactly_in_any_number_of_steps(method: str) -> None:
    target = noise(2, seed=5)
    for steps in (1, 3, 16):
        velocity = Straight(target)
        made = samplers.sample(velocity, noise(2), torch.zeros(2, dtype=torch.int64), steps, method=method)
        torch.testing.assert_close(made, target, atol=1e-5, rtol=1e-5)
        assert len(velocity.calls) == (2 * steps - 1 if method == "heun" else steps)


def test_second_order_methods_are_closer_than_euler_on_a_bent_path() -> None:
    def bent(images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        return (3 * times).exp().view(-1, 1, 1, 1).expand_as(images)

    start = torch.zeros(1, 1, 2, 2)
    exact = -(torch.e**3 - 1) / 3
    labels = torch.zeros(1, dtype=torch.int64)
    errors = [float((samplers.sample(bent, start, labels, 20, method=m) - exact).abs().max()) for m in samplers.METHODS]
    assert samplers.METHODS == ("euler", "heun", "adams")
    assert max(errors[1:]) < errors[0] / 5


def test_guidance_1_is_no_guidance_to_the_last_bit() -> None:
    net, labels = network(), torch.tensor([0, 1, 2, -1])
    plain = samplers.sample(net, noise(4), labels, 5)
    by_hand = noise(4)
    for left in range(5, 0, -1):
        by_hand = by_hand - net(by_hand, torch.full((4,), left / 5), labels) / 5
    assert torch.equal(plain, by_hand)
    assert torch.equal(samplers.sample(net, noise(4), labels, 5, guidance=1.0), plain)
    assert torch.equal(samplers.sample(net, noise(4), labels, 5, guidance=torch.ones(4)), plain)


def test_guidance_is_the_formula_in_one_call_and_only_where_it_is_asked_for() -> None:
    net, labels = network(), torch.tensor([0, 1, 2, -1])
    calls = []

    def counted(images: Tensor, times: Tensor, named: Tensor) -> Tensor:
        calls.append(len(images))
        return net(images, times, named)

    times, guidance = torch.full((4,), 0.7), torch.tensor([3.0, 1.0, 0.0, 5.0])
    found = samplers.guided_velocity(counted, noise(4), times, labels, guidance)
    assert calls == [6]  # two rows are guided: one has guidance 1, one has no class
    named, free = net(noise(4), times, labels), net(noise(4), times, torch.full((4,), -1))
    wanted = free + guidance.view(-1, 1, 1, 1) * (named - free)
    wanted[[1, 3]] = named[[1, 3]]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(named, free)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    net, labels, guidance = network(), torch.tensor([0, 1, 2, 0]), torch.tensor([1.0, 2.0, 1.5, 1.0])
    together = samplers.sample(net, noise(4), labels, 4, guidance)
    for row in range(4):
        alone = samplers.sample(net, noise(4)[[row]], labels[[row]], 4, guidance[[row]])
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)


def test_an_edit_of_all_steps_is_a_sample_and_of_few_steps_stays_near() -> None:
    net, labels, images = network(), torch.tensor([0, 1]), noise(2, seed=9).clamp(-1, 1)
    whole = samplers.edit(net, images, noise(2), labels, steps=8, run=8)
    torch.testing.assert_close(whole, samplers.sample(net, noise(2), labels, 8))
    velocity = Straight(images)
    back = samplers.edit(velocity, images, noise(2), labels, steps=8, run=3)
    torch.testing.assert_close(back, images, atol=1e-5, rtol=1e-5)
    assert len(velocity.calls) == 3


def test_strength_counts_whole_steps_and_names_the_smallest() -> None:
    assert [step_count(10, strength) for strength in (0.1, 0.29, 0.3, 0.6, 0.7, 1.0)] == [1, 2, 3, 6, 7, 10]
    assert step_count(100, 0.29) == 29
    with pytest.raises(
        ValueError, match=r"strength 0.05 of 10 steps runs no step; the smallest usable strength is 0.1"
    ):
        step_count(10, 0.05)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="'eular' is not known; known: euler, heun, adams"):
        samplers.sample(network(), noise(1), torch.tensor([0]), 2, method="eular")


# ---- the network and its file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        TINY,
        UNetShape(size_px=28, classes=2, widths=(4, 8), groups=2, heads=0, embedding=8),
        UNetShape(size_px=16, channels=3, classes=2, patch_px=1, widths=(4, 4, 8), blocks=1, groups=2, embedding=8),
        UNetShape(size_px=6, classes=1, patch_px=1, widths=(4,), groups=2, embedding=8),
    ],
)
def test_a_network_gives_the_shape_it_takes_and_looks_at_time_and_class(shape: UNetShape) -> None:
    net = network(shape)
    images = noise(2, shape)
    labels = torch.tensor([0, -1])
    made = net(images, torch.tensor([0.2, 0.2]), labels)
    assert made.shape == images.shape and made.dtype == torch.float32
    assert not torch.allclose(made, net(images, torch.tensor([0.8, 0.8]), labels))
    assert not torch.allclose(made[1], net(images, torch.tensor([0.2, 0.2]), torch.tensor([0, 0]))[1])


def test_a_new_network_starts_at_zero() -> None:
    torch.manual_seed(0)
    assert not UNet(TINY)(noise(2), torch.tensor([0.5, 0.5]), torch.tensor([0, 1])).any()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"size_px": 30}, "cannot be cut"),
        ({"widths": (30, 64)}, "multiples of 8 groups"),
        ({"heads": 3}, "multiple of 3 heads"),
        ({"blocks": 0}, "1 or more"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetShape(**numbers)


def test_a_file_says_what_it_is_and_loads_to_the_same_network(tmp_path: Path) -> None:
    net = network()
    for parameter in net.parameters():
        parameter.copy_(parameter.half().float())
    save_flow(tmp_path / "net.safetensors", net, ("a", "b", "c"), "made by a test")
    loaded, classes = load_flow(tmp_path / "net.safetensors")
    assert classes == ("a", "b", "c") and loaded.shape == TINY and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    times, labels = torch.tensor([0.3, 0.9]), torch.tensor([1, -1])
    torch.testing.assert_close(loaded(noise(2), times, labels), net(noise(2), times, labels), atol=1e-5, rtol=1e-4)
    assert model_file.read_metadata(tmp_path / "net.safetensors")["about"] == "made by a test"
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_files_of_anything_else_are_refused_in_one_line(tmp_path: Path) -> None:
    other, damaged, false, wide = (tmp_path / f"{name}.safetensors" for name in ("other", "damaged", "false", "wide"))
    save_file({"weight": torch.zeros(2)}, other)
    damaged.write_bytes(b"not safetensors at all")
    model_file.save_model(false, "flow-unet/1", {"size_px": 30, "widths": [4]}, (), {})
    model_file.save_model(wide, "flow-unet/1", {"size_px": 8, "widths": [8]}, (), network().state_dict())
    for path, message in (
        (other, "holds something else; needed: flow-unet/1"),
        (damaged, "cannot be read as safetensors"),
        (false, "its metadata is no flow-unet/1"),
        (wide, "weights do not fit its own numbers"),
        (tmp_path / "none.safetensors", "cannot be read"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            load_flow(path)
        assert "\n" not in str(caught.value)


# ---- labels and pictures ---------------------------------------------------------------------------------------------


def test_classes_are_matched_by_name_and_else_by_index() -> None:
    known = ("T-shirt/top", "Bag")
    found, errors = class_indexes([1, 0, -1, 2], ("bag", "T - shirt / top", "Coat"), known, 2)
    assert found == [0, 1, -1, -1]
    assert list(errors) == [3]
    assert str(errors[3]) == "unknown_class: the model has no class 'Coat'; it has: T-shirt/top, Bag"
    found, errors = class_indexes([1, 2, -1], (), known, 2)
    assert found == [1, -1, -1] and errors[1].code == "unknown_class"
    assert class_indexes([1], ("x", "y"), (), 2) == ([1], {})


def test_pixels_come_back_and_what_is_not_finite_is_black() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    assert torch.equal(to_pixels(from_pixels(pixels)), pixels)
    broken = torch.tensor([float("nan"), float("inf"), -1.0, 0.0]).view(4, 1, 1, 1)
    assert to_pixels(broken).flatten().tolist() == [0, 0, 0, 128]
    assert flaws(broken, to_pixels(broken)) == {0: "non_finite", 1: "non_finite", 2: "black"}


def test_channels_and_sizes() -> None:
    grey = torch.rand(2, 1, 5, 7)
    rgb = with_channels(grey, 3)
    assert rgb.shape == (2, 3, 5, 7)
    torch.testing.assert_close(with_channels(rgb, 1), grey)
    assert with_channels(grey, 1) is grey
    assert with_size(grey, 28).shape == (2, 1, 28, 28)
    torch.testing.assert_close(with_size(torch.full((1, 1, 64, 33), 0.3), 8), torch.full((1, 1, 8, 8), 0.3))
