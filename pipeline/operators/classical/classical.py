"""The classical controls every generative augmentation has to beat: TrivialAugment, RandAugment, AugMix, crop and flip.

Spaces of operations and magnitudes, interpolation and fill are those of torchvision's `transforms.v2`; every random
choice is made here, from each sample's own seed, and written down.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Draws, ImageBatch, Operator, Parameters, Pixels
from pipeline.errors import JobError
from pipeline.noise import Noise
from pipeline.seeding import generators

if TYPE_CHECKING:
    from torch import Tensor

Policy = Literal["trivial_augment", "rand_augment", "aug_mix", "crop_flip"]
Step = list[Any]  # [operation, magnitude], magnitude None where the operation has none
Magnitudes = tuple[float, ...] | None

BINS = 31  # magnitudes of TrivialAugment and RandAugment
AUG_MIX_BINS = 10
PADDED_SIDE = 331  # RandAugment shifts by up to 150 pixels of an image of this side

DEFAULTS: dict[str, dict[str, Any]] = {
    "trivial_augment": {},
    "rand_augment": {"num_ops": 2, "magnitude": 9},
    "aug_mix": {"severity": 3, "mixture_width": 3, "chain_depth": -1, "alpha": 1.0, "all_ops": True},
    "crop_flip": {"padding_fraction": 0.125, "flip_probability": 0.5},
}
_OWNER = {name: policy for policy, own in DEFAULTS.items() for name in own}


class ClassicalParams(Parameters):
    """The policy and its own parameters; one that belongs to another policy is an error."""

    policy: Policy = Field("trivial_augment", description="the published policy")
    num_ops: int | None = Field(
        None, ge=0, le=20, validate_default=True, description="rand_augment: operations an image; default 2"
    )
    magnitude: int | None = Field(
        None, ge=0, lt=BINS, validate_default=True, description="rand_augment: bin of 31, 0 = weakest; default 9"
    )
    severity: int | None = Field(
        None, ge=1, le=AUG_MIX_BINS, validate_default=True, description="aug_mix: bins drawn from; default 3"
    )
    mixture_width: int | None = Field(
        None, ge=1, le=20, validate_default=True, description="aug_mix: chains mixed; default 3"
    )
    chain_depth: int | None = Field(
        None, ge=-1, le=20, validate_default=True,
        description="aug_mix: operations a chain; -1, the default, draws 1, 2 or 3",
    )  # fmt: skip
    alpha: float | None = Field(
        None,
        gt=0,
        le=1000,
        validate_default=True,
        description="aug_mix: parameter of the Dirichlet and Beta draws; default 1",
    )
    all_ops: bool | None = Field(
        None, validate_default=True,
        description="aug_mix: also brightness, colour, contrast and sharpness; default true",
    )  # fmt: skip
    padding_fraction: float | None = Field(
        None, ge=0, le=1, validate_default=True, description="crop_flip: padding, as share of each side; default 0.125"
    )
    flip_probability: float | None = Field(
        None, ge=0, le=1, validate_default=True, description="crop_flip: share mirrored left to right; default 0.5"
    )
    fill: int | None = Field(
        None, ge=0, le=255, description="grey level of uncovered pixels; omitted: black, as torchvision without fill"
    )

    @field_validator(*_OWNER)
    @classmethod
    def _own(cls, value: Any, info: ValidationInfo) -> Any:
        name, policy = str(info.field_name), info.data.get("policy")
        if policy is None:  # the policy itself is wrong, and that error is the one to show
            return value
        if name in DEFAULTS[policy]:
            chosen = DEFAULTS[policy][name] if value is None else value
            if name == "chain_depth" and chosen == 0:
                raise PydanticCustomError("chain_depth", "a chain has 1 operation or more; -1 draws 1, 2 or 3")
            return chosen
        if value is not None:
            raise PydanticCustomError(
                "other_policy",
                "belongs to policy {owner}, not to {policy}; remove it or change the policy",
                {"owner": _OWNER[name], "policy": policy},
            )
        return None

    def own(self) -> dict[str, Any]:
        """Return the parameters of the chosen policy, by name."""
        return {name: getattr(self, name) for name in DEFAULTS[self.policy]}


class Classical(Operator):
    """One published policy of label-preserving edits: [N, H, W, 1 or 3] uint8 -> the same shape.

    Draws `ops` [[operation, magnitude], ...] (trivial_augment, rand_augment); `mix` (share of the original),
    `weights` and `chains` (aug_mix); `top`, `left` (corner of the crop in the padded image, px) and `flip` (crop_flip).
    Raises JobError where the batch has no images.
    """

    name = "classical"
    version = 1
    source = (
        "Mueller & Hutter 2021 (TrivialAugment-Wide), Cubuk et al. 2020 (RandAugment), Hendrycks et al. 2020 (AugMix), "
        "He et al. 2016 section 4.2 (crop and flip); arithmetic of torchvision.transforms.v2"
    )
    Params = ClassicalParams
    geometric = True
    cpu_s_per_megapixel = 0.03
    params: ClassicalParams

    def draw(self, batch: ImageBatch) -> Draws:
        """Draw everything the policy leaves to chance; depends on the seeds and on the size of the images."""
        height, width = _images(batch).shape[1:3]
        own = self.params.own()
        rows = [_DRAW[self.params.policy](rng, height, width, **own) for rng in generators(batch.seeds)]
        return Draws({name: [row[name] for row in rows] for name in _COLUMNS[self.params.policy]})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Carry out the drawn operations, image by image."""
        images = _images(batch)
        if self.params.policy == "crop_flip":
            return Applied(self._crop(images, draws))
        import torch

        # A copy: torch warns of arrays that cannot be written to.
        pixels = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))  # [N, C, H, W]
        made = np.empty_like(pixels.numpy())
        with torch.inference_mode():
            for index in range(len(batch)):
                row = draws.row(index)
                if self.params.policy == "aug_mix":
                    made[index] = self._mix(pixels[index], row)
                else:
                    made[index] = _run(pixels[index], row["ops"], "nearest", self.params.fill).numpy()
        return Applied(np.ascontiguousarray(made.transpose(0, 2, 3, 1)))

    def _mix(self, image: "Tensor", row: dict[str, Any]) -> Pixels:
        """AugMix, algorithm 1: mix * x + (1 - mix) * sum_i w_i chain_i(x), rounded to the nearest grey level."""
        mixed = row["mix"] * image.numpy().astype(np.float64)  # [C, H, W]
        for weight, chain in zip(row["weights"], row["chains"], strict=True):
            mixed += (1 - row["mix"]) * weight * _run(image, chain, "bilinear", self.params.fill).numpy()
        rounded: Pixels = np.rint(mixed).clip(0, 255).astype(np.uint8)
        return rounded

    def _crop(self, images: Pixels, draws: Draws) -> Pixels:
        """Pad each side by the fraction, cut the drawn window, mirror it where drawn."""
        count, height, width, channels = images.shape
        rows, columns = (_padding(side, self.params.own()["padding_fraction"]) for side in (height, width))
        shape = (count, height + 2 * rows, width + 2 * columns, channels)
        padded = np.full(shape, self.params.fill or 0, dtype=np.uint8)
        padded[:, rows : rows + height, columns : columns + width] = images
        made = np.empty_like(images, order="C")
        drawn = zip(draws.columns["top"], draws.columns["left"], draws.columns["flip"], strict=True)
        for index, (top, left, flip) in enumerate(drawn):
            window = padded[index, top : top + height, left : left + width]
            made[index] = window[:, ::-1] if flip else window
        return made


def _images(batch: ImageBatch) -> Pixels:
    if batch.images is None:
        raise JobError("classical: there are no images to change; put it after an operator that makes some")
    return batch.images


def _padding(side: int, fraction: float) -> int:
    return int(side * fraction + 0.5)


# ---- what can be drawn -----------------------------------------------------------------------------------------------


def _even(last: float, bins: int, first: float = 0.0) -> tuple[float, ...]:
    """Evenly spaced magnitudes, in float64: torchvision's float32 ones lie within 1e-6 of them.

    float32 would turn a shift of 16 pixels into 15.999999, cut to 15, on some machines and not on others.
    """
    return tuple(first + (last - first) * index / (bins - 1) for index in range(bins))


def _bits(first: int, lost: int, bins: int) -> tuple[float, ...]:
    return tuple(round(first - index * lost / (bins - 1)) for index in range(bins))


def _geometry(shear: float, right: float, down: float, degrees: float, bins: int) -> dict[str, Magnitudes]:
    """Shears (tangent), shifts (whole pixels, towards zero) and rotation; all of them signed."""
    return {
        "shear_x": _even(shear, bins),
        "shear_y": _even(shear, bins),
        "translate_x": tuple(int(value) for value in _even(right, bins)),
        "translate_y": tuple(int(value) for value in _even(down, bins)),
        "rotate": _even(degrees, bins),
    }


def _colour(change: float, bins: int) -> dict[str, Magnitudes]:
    """Changes of a factor that is 1 at rest; all of them signed."""
    return dict.fromkeys(("brightness", "color", "contrast", "sharpness"), _even(change, bins))


def _tone(first: int, lost: int, bins: int) -> dict[str, Magnitudes]:
    """Bits kept, threshold as share of white, and what has no magnitude; none of them signed."""
    posterize, solarize = _bits(first, lost, bins), _even(0.0, bins, first=1.0)
    return {"posterize": posterize, "solarize": solarize, "auto_contrast": None, "equalize": None}


_UNSIGNED = frozenset({"identity", "posterize", "solarize", "auto_contrast", "equalize"})


@lru_cache(maxsize=256)
def space(policy: Policy, height: int, width: int, all_ops: bool = True) -> dict[str, Magnitudes]:
    """Return the magnitudes of each operation of a policy, weakest first, for images of `height` x `width` pixels."""
    if policy == "trivial_augment":
        shapes, colours, tones = _geometry(0.99, 32, 32, 135, BINS), _colour(0.99, BINS), _tone(8, 6, BINS)
        return {"identity": None, **shapes, **colours, **tones}
    if policy == "rand_augment":
        share = 150 / PADDED_SIDE
        shapes = _geometry(0.3, share * width, share * height, 30, BINS)
        return {"identity": None, **shapes, **_colour(0.9, BINS), **_tone(8, 4, BINS)}
    if policy == "aug_mix":
        shapes = _geometry(0.3, width / 3, height / 3, 30, AUG_MIX_BINS)
        colours = _colour(0.9, AUG_MIX_BINS) if all_ops else {}
        return {**shapes, **_tone(4, 4, AUG_MIX_BINS), **colours}
    return {}


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _draw_step(rng: np.random.Generator, choices: dict[str, Magnitudes], first: int, last: int) -> Step:
    """Draw an operation, then its bin in [first, last), then the sign."""
    name = list(choices)[int(rng.integers(len(choices)))]
    magnitudes = choices[name]
    if magnitudes is None:
        return [name, None]
    magnitude = magnitudes[int(rng.integers(first, last))]
    if name not in _UNSIGNED and rng.random() < 0.5 and magnitude:
        magnitude = -magnitude
    return [name, magnitude]


def _draw_trivial(rng: np.random.Generator, height: int, width: int) -> dict[str, Any]:
    return {"ops": [_draw_step(rng, space("trivial_augment", height, width), 0, BINS)]}


def _draw_rand(rng: np.random.Generator, height: int, width: int, num_ops: int, magnitude: int) -> dict[str, Any]:
    choices = space("rand_augment", height, width)
    return {"ops": [_draw_step(rng, choices, magnitude, magnitude + 1) for _ in range(num_ops)]}


def _draw_mix(
    rng: np.random.Generator, height: int, width: int,
    severity: int, mixture_width: int, chain_depth: int, alpha: float, all_ops: bool,
) -> dict[str, Any]:  # fmt: skip
    choices = space("aug_mix", height, width, all_ops)
    row: dict[str, Any] = {"mix": float(rng.beta(alpha, alpha))}
    row["weights"] = rng.dirichlet([alpha] * mixture_width).tolist()
    depths = [chain_depth if chain_depth > 0 else int(rng.integers(1, 4)) for _ in range(mixture_width)]
    row["chains"] = [[_draw_step(rng, choices, 0, severity) for _ in range(depth)] for depth in depths]
    return row


def _draw_crop(
    rng: np.random.Generator, height: int, width: int, padding_fraction: float, flip_probability: float
) -> dict[str, Any]:
    top, left = (int(rng.integers(2 * _padding(side, padding_fraction) + 1)) for side in (height, width))
    return {"top": top, "left": left, "flip": bool(rng.random() < flip_probability)}


_DRAW: dict[str, Callable[..., dict[str, Any]]] = {
    "trivial_augment": _draw_trivial,
    "rand_augment": _draw_rand,
    "aug_mix": _draw_mix,
    "crop_flip": _draw_crop,
}
_COLUMNS = {
    "trivial_augment": ("ops",),
    "rand_augment": ("ops",),
    "aug_mix": ("mix", "weights", "chains"),
    "crop_flip": ("top", "left", "flip"),
}


# ---- carrying out ----------------------------------------------------------------------------------------------------


def _run(image: "Tensor", steps: Sequence[Step], interpolation: str, fill: int | None) -> "Tensor":
    """Return `image` [C, H, W] uint8 after `steps`, one after another."""
    for name, magnitude in steps:
        image = run_step(image, name, magnitude, interpolation, fill)
    return image


def run_step(image: "Tensor", name: str, magnitude: Any, interpolation: str, fill: int | None) -> "Tensor":
    """Return `image` [C, H, W] uint8 after one drawn operation, as torchvision's own policies carry it out.

    Raises:
        JobError: there is no such operation (a lineage record of another version).
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as act

    made: Tensor
    if name in _AFFINE:
        made = act.affine(
            image, scale=1.0, interpolation=InterpolationMode(interpolation), fill=fill, **_AFFINE[name](magnitude)
        )
    elif name == "rotate":
        made = act.rotate(image, angle=magnitude, interpolation=InterpolationMode(interpolation), fill=fill)
    elif name == "posterize":
        made = act.posterize(image, bits=int(magnitude))
    elif name == "solarize":
        made = act.solarize(image, threshold=255 * magnitude)
    elif name in _FACTOR:
        made = getattr(act, _FACTOR[name])(image, 1.0 + magnitude)
    elif name == "auto_contrast":
        made = act.autocontrast(image)
    elif name == "equalize":
        made = act.equalize(image)
    elif name == "identity":
        made = image
    else:
        raise JobError(f"classical: there is no operation {name!r}; was it drawn by another version?")
    return made


def _shear(x: float, y: float) -> dict[str, Any]:
    # AutoAugment shears by a tangent about the corner; torchvision's affine takes degrees.
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return {"angle": 0.0, "translate": [0, 0], "shear": degrees, "center": [0, 0]}


def _shift(x: int, y: int) -> dict[str, Any]:
    return {"angle": 0.0, "translate": [x, y], "shear": [0.0, 0.0]}


_AFFINE: dict[str, Callable[[Any], dict[str, Any]]] = {
    "shear_x": lambda amount: _shear(amount, 0.0),
    "shear_y": lambda amount: _shear(0.0, amount),
    "translate_x": lambda amount: _shift(amount, 0),
    "translate_y": lambda amount: _shift(0, amount),
}
_FACTOR = {
    "brightness": "adjust_brightness",
    "color": "adjust_saturation",
    "contrast": "adjust_contrast",
    "sharpness": "adjust_sharpness",
}
