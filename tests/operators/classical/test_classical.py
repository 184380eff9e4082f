"""Classical: the operations of torchvision, drawn fairly, each policy with its own parameters."""

from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import AugMix, RandAugment, TrivialAugmentWide
from torchvision.transforms.v2 import functional as act_of_torchvision

from palimpsest.testing.operators import OperatorConformance, act, make_batch
from pipeline.contracts import Draws, ImageBatch
from pipeline.errors import JobError, RecipeError
from pipeline.operators.classical.classical import Classical, ClassicalParams, run_step, space
from pipeline.validation import parse

SIZES = [(28, 28), (7, 33), (1, 1), (331, 331)]
PEERS = {"trivial_augment": TrivialAugmentWide, "rand_augment": RandAugment, "aug_mix": AugMix}
THEIR_BINS = {"trivial_augment": 31, "rand_augment": 31, "aug_mix": 10}


pytestmark = pytest.mark.usefixtures("one_thread")


class TestTrivialAugmentConformance(OperatorConformance):
    operator = Classical


class TestRandAugmentConformance(OperatorConformance):
    operator = Classical
    params: ClassVar = {"policy": "rand_augment", "num_ops": 3, "magnitude": 20, "fill": 128}


class TestAugMixConformance(OperatorConformance):
    operator = Classical
    params: ClassVar = {"policy": "aug_mix", "severity": 10}


class TestCropFlipConformance(OperatorConformance):
    operator = Classical
    params: ClassVar = {"policy": "crop_flip"}


def classical(**params: Any) -> Classical:
    return Classical(ClassicalParams(**params))


def their_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def pixels(batch: ImageBatch) -> torch.Tensor:
    assert batch.images is not None
    return torch.from_numpy(batch.images).permute(0, 3, 1, 2).contiguous()


# ---- the same space and arithmetic as torchvision --------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("policy", PEERS)
def test_operations_and_magnitudes_are_those_of_torchvision(policy: Any, size: tuple[int, int]) -> None:
    theirs = PEERS[policy]._AUGMENTATION_SPACE
    ours = space(policy, *size)
    assert {their_name(name) for name in ours} == set(theirs)
    for name, magnitudes in ours.items():
        made, _ = theirs[their_name(name)]
        wanted = made(THEIR_BINS[policy], *size)
        assert (wanted is None) == (magnitudes is None)
        if wanted is None:
            continue
        if name.startswith("translate"):  # theirs may lie one float32 step below a whole pixel, and lose it
            wanted = (wanted.double() + 1e-5).int()
        np.testing.assert_allclose(magnitudes, wanted.tolist(), rtol=1e-6, atol=1e-7)


def test_partial_aug_mix_space_is_that_of_torchvision() -> None:
    ours = space("aug_mix", 28, 28, all_ops=False)
    assert {their_name(name) for name in ours} == set(AugMix._PARTIAL_AUGMENTATION_SPACE)


@pytest.mark.parametrize("fill", [None, 0, 77])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES[:3])
@pytest.mark.parametrize("policy", PEERS)
def test_each_operation_equals_that_of_torchvision(
    policy: Any, size: tuple[int, int], channels: int, fill: int | None
) -> None:
    peer = PEERS[policy](fill=fill)
    mode = InterpolationMode(peer.interpolation)
    image = pixels(make_batch([3], size, channels))[0]
    for name, magnitudes in space(policy, *size).items():
        unsigned = name in ("posterize", "solarize")
        for magnitude in (None,) if magnitudes is None else magnitudes[:: 3 if channels == 3 else 5]:
            for sign in (1, -1) if magnitude and not unsigned else (1,):
                value = None if magnitude is None else sign * magnitude
                found = run_step(image, name, value, mode.value, fill)
                wanted = peer._apply_image_or_video_transform(image, their_name(name), value or 0.0, mode, peer._fill)
                assert torch.equal(found, wanted), (name, value)


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(JobError, match="no operation 'swirl'"):
        run_step(torch.zeros(1, 2, 2, dtype=torch.uint8), "swirl", 1.0, "nearest", None)


# ---- trivial_augment and rand_augment --------------------------------------------------------------------------------


def chi_square(counts: Counter[Any], cells: int) -> float:
    expected = sum(counts.values()) / cells
    return sum((counts[cell] - expected) ** 2 / expected for cell in counts) + (cells - len(counts)) * expected


def test_trivial_augment_draws_operations_bins_and_signs_evenly() -> None:
    operator = classical()
    ops = [row[0] for row in operator.draw(make_batch(list(range(10_000)), (8, 8))).columns["ops"]]
    names = Counter(name for name, _ in ops)
    assert chi_square(names, 14) < 34.5  # 13 degrees of freedom, p = 0.001
    sizes = Counter(abs(value) for name, value in ops if name == "rotate")
    assert chi_square(sizes, 31) < 59.7  # 30 degrees of freedom, p = 0.001
    signs = Counter(value > 0 for name, value in ops if name in ("rotate", "shear_x", "brightness") and value)
    assert chi_square(signs, 2) < 10.8  # 1 degree of freedom, p = 0.001


def test_trivial_augment_executes_what_it_drew() -> None:
    batch = make_batch(list(range(60)), (28, 28), 3)
    operator = classical(fill=9)
    draws = operator.draw(batch)
    peer = TrivialAugmentWide(fill=9)
    made = act(operator, batch, draws).images
    for index, image in enumerate(pixels(batch)):
        ((name, value),) = draws.columns["ops"][index]
        wanted = peer._apply_image_or_video_transform(
            image, their_name(name), value or 0.0, peer.interpolation, peer._fill
        )
        np.testing.assert_array_equal(made[index], wanted.permute(1, 2, 0).numpy(), err_msg=f"{name} {value}")


@pytest.mark.parametrize("num_ops", [0, 1, 4])
def test_rand_augment_chains_its_operations(num_ops: int) -> None:
    batch = make_batch(list(range(30)), (28, 28), 3)
    operator = classical(policy="rand_augment", num_ops=num_ops, magnitude=15)
    draws = operator.draw(batch)
    peer = RandAugment()
    made = act(operator, batch, draws).images
    for index, image in enumerate(pixels(batch)):
        assert len(draws.columns["ops"][index]) == num_ops
        for name, value in draws.columns["ops"][index]:
            magnitudes = space("rand_augment", 28, 28)[name]
            assert value is None if magnitudes is None else abs(value) == magnitudes[15]
            image = peer._apply_image_or_video_transform(
                image, their_name(name), value or 0.0, peer.interpolation, peer._fill
            )
        np.testing.assert_array_equal(made[index], image.permute(1, 2, 0).numpy())


# ---- aug_mix ---------------------------------------------------------------------------------------------------------


def test_aug_mix_mixes_in_the_drawn_shares() -> None:
    batch = make_batch(list(range(20)), (28, 28), 3)
    assert batch.images is not None
    operator = classical(policy="aug_mix", mixture_width=4, alpha=2.0)
    draws = operator.draw(batch)
    made = act(operator, batch, draws).images
    for index in range(20):
        row = draws.row(index)
        wanted = row["mix"] * batch.images[index].astype(np.float64)
        for weight, chain in zip(row["weights"], row["chains"], strict=True):
            image = pixels(batch)[index]
            for name, value in chain:
                image = run_step(image, name, value, "bilinear", None)
            wanted += (1 - row["mix"]) * weight * image.permute(1, 2, 0).numpy()
        assert np.abs(made[index] - wanted).max() <= 0.5 + 1e-9


def test_aug_mix_draws_shares_depths_and_bins_in_range() -> None:
    operator = classical(policy="aug_mix", severity=2, all_ops=False)
    draws = operator.draw(make_batch(list(range(1500)), (30, 30)))
    np.testing.assert_allclose([sum(weights) for weights in draws.columns["weights"]], 1)
    assert np.mean(draws.columns["mix"]) == pytest.approx(0.5, abs=0.03)  # Beta(1, 1) is uniform
    assert np.mean(draws.columns["weights"]) == pytest.approx(1 / 3)
    chains = [chain for chains in draws.columns["chains"] for chain in chains]
    assert chi_square(Counter(len(chain) for chain in chains), 3) < 13.8  # 2 degrees of freedom, p = 0.001
    choices = space("aug_mix", 30, 30, all_ops=False)
    steps = [step for chain in chains for step in chain]
    assert chi_square(Counter(name for name, _ in steps), 9) < 26.1  # 8 degrees of freedom, p = 0.001
    for name, value in steps:
        magnitudes = choices[name]
        assert value is None if magnitudes is None else abs(value) in magnitudes[:2]


def test_aug_mix_keeps_constant_images_as_bright_as_they_were() -> None:
    draws = Draws({"mix": [0.3], "weights": [[0.2, 0.3, 0.5]], "chains": [[[["auto_contrast", None]]] * 3]})
    made = act(classical(policy="aug_mix"), make_batch([0], (9, 9), 3, level=201), draws)
    np.testing.assert_array_equal(made.images, np.full((1, 9, 9, 3), 201))


def test_aug_mix_chain_depth_is_kept() -> None:
    draws = classical(policy="aug_mix", chain_depth=5, mixture_width=2).draw(make_batch([0, 1]))
    assert [[len(chain) for chain in chains] for chains in draws.columns["chains"]] == [[5, 5], [5, 5]]


# ---- crop_flip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", [None, 200])
@pytest.mark.parametrize("size", [(32, 32), (7, 33), (1, 1)])
def test_crop_flip_equals_pad_and_crop_of_torchvision(size: tuple[int, int], fill: int | None) -> None:
    batch = make_batch(list(range(24)), size, 3)
    operator = classical(policy="crop_flip", padding_fraction=0.25, fill=fill)
    draws = operator.draw(batch)
    made = act(operator, batch, draws).images
    height, width = size
    down, right = int(height / 4 + 0.5), int(width / 4 + 0.5)
    for index, image in enumerate(pixels(batch)):
        row = draws.row(index)
        padded = act_of_torchvision.pad(image, [right, down], fill=fill)
        wanted = act_of_torchvision.crop(padded, row["top"], row["left"], height, width)
        wanted = act_of_torchvision.horizontal_flip(wanted) if row["flip"] else wanted
        np.testing.assert_array_equal(made[index], wanted.permute(1, 2, 0).numpy())


def test_crop_flip_draws_every_corner_evenly() -> None:
    draws = classical(policy="crop_flip", flip_probability=0.2).draw(make_batch(list(range(3000)), (32, 16)))
    assert chi_square(Counter(draws.columns["top"]), 9) < 26.1  # padding 4 px: 0..8
    assert chi_square(Counter(draws.columns["left"]), 5) < 18.5  # padding 2 px: 0..4
    assert np.mean(draws.columns["flip"]) == pytest.approx(0.2, abs=0.03)


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_policy_and_nothing_else() -> None:
    chosen = ClassicalParams(policy="rand_augment").model_dump(exclude_none=True)
    assert chosen == {"policy": "rand_augment", "num_ops": 2, "magnitude": 9}
    assert ClassicalParams().model_dump(exclude_none=True) == {"policy": "trivial_augment"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"num_ops": 2}, r"num_ops = 2: belongs to policy rand_augment, not to trivial_augment"),
        ({"policy": "crop_flip", "severity": 3}, r"severity = 3: belongs to policy aug_mix, not to crop_flip"),
        ({"policy": "aug_mix", "all_ops": False, "magnitude": 3}, r"magnitude = 3: belongs to policy rand_augment"),
        ({"policy": "rand_augment", "magnitude": 31}, r"magnitude = 31: .*less than 31"),
        ({"policy": "aug_mix", "severity": 11}, r"severity = 11: .*less than or equal to 10"),
        ({"policy": "aug_mix", "chain_depth": 0}, r"chain_depth = 0: a chain has 1 operation or more"),
        ({"policy": "aug_mix", "alpha": 0}, r"alpha = 0: .*greater than 0"),
        ({"policy": "auto_augment", "num_ops": 1}, r"policy = 'auto_augment': .*'trivial_augment'"),
        ({"fill": 256}, r"fill = 256: .*less than or equal to 255"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(ClassicalParams, params, "classical")


def test_no_images_is_an_error_of_the_job() -> None:
    with pytest.raises(JobError, match="no images to change"):
        classical().draw(ImageBatch(images=None, seeds=[1], labels=np.array([0])))
