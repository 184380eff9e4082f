"""Edit images part of the way to another class, with a label that says how far (Diff-Mix, Wang et al. 2024)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Draws, ImageBatch, PartnerRow
from pipeline.errors import InputError, RowError
from pipeline.noise import Noise
from pipeline.operators.bases.diffusion_operator import DiffusionOperator
from pipeline.operators.bases.diffusion_parameters import RedrawParameters
from pipeline.requirements import NO_PARTNER, ClassRequirements, required_partners
from pipeline.seeding import generators

SIDES = ("left", "right", "top", "bottom")


class DiffusionMixParams(RedrawParameters):
    """Parameters: strength of the edit, share of the label for the other class, and what stays of the source."""

    renamed: ClassVar[Mapping[str, str]] = {"toward": "mix_with", "row_share": "partner_share"}

    label_weight: Literal["strength"] | float = Field(
        "strength",
        description="share of the label the other class gets: the strength drawn, or one share within [0, 1]",
    )
    label_power: float = Field(
        1.0, gt=0, le=10, description="the other class gets strength ** power; Diff-Mix takes less than 1"
    )
    blend: Literal["none", "half"] = Field(
        "none",
        description="half: a drawn half of the image stays the source's (DiffuseMix), and half the weight with it",
    )
    mix_with: Literal["class", "row"] = Field(
        "class",
        description="what the other class is drawn from: all others evenly, or the other usable rows of the unit; that "
        "row is a partner in the lineage, and `partner_share` of it is mixed into the source",
    )
    partner_share: float = Field(
        0.5, ge=0, le=1, description="mix_with: row only; share of the other row in the image that is edited"
    )
    strength_range: tuple[float, float] = Field(
        (0.5, 0.9),
        validate_default=True,
        description="share of the steps that is run, drawn for each image among whole steps: 1 = nothing kept",
    )

    @model_validator(mode="after")
    def _whole(self) -> "DiffusionMixParams":
        if self.label_weight != "strength" and not 0 <= self.label_weight <= 1:
            raise PydanticCustomError("label_weight", "label_weight needs `strength` or a share within [0, 1]")
        if self.condition == "none":
            raise PydanticCustomError("condition", "condition: none names no class to go to; leave it out")
        return self


class DiffusionMix(DiffusionOperator):
    """Mix classes: [N, H, W, 1 or 3] uint8 -> [N, S, S, C] uint8 of the model's size and channels, and a soft label.

    The other class is drawn evenly from the data set's other classes that the model knows (any, for a pipeline, whose
    prompt names it). The soft label gives it `weight` and the source's class the rest; the hard label is the larger.
    Draws those of `diffusion_edit`, with `target` (its index in the data set), `target_name`, `weight`, and with
    `blend: half` the `side` that stays.

    `mix_with: row` takes the class of another row of the unit, which the runner draws by seed, and starts the edit from
    both images, (1 - share) * source + share * other, the other stretched to the source's size (mixup, Zhang et al.
    2018, of the pixels). What the edit keeps, 1 - weight, is then of both classes: the other gets 1 - (1 - weight)(1 -
    share). Draws `partner_row`, also a partner with role `mix`.

    RowErrors: `no_label` for a row without one, `unknown_class` where the model knows no other class, or not that of
    the other row, `no_prompt`. Rejections as in `diffusion_edit`, and `no_partner` where no row of the unit has another
    class. `draw` raises InputError where the input names no classes.
    """

    name = "diffusion_mix"
    version = 2  # 1 had other memory layouts, and so other sums
    source = (
        "Wang et al. 2024, Enhance Image Classification via Inter-Class Image Mixup with Diffusion Model (Diff-Mix)"
    )
    Params = DiffusionMixParams
    task: ClassVar[Literal["edit"]] = "edit"
    geometric = True  # what an object becomes, or what is mixed into it, stands elsewhere
    changes_labels = True
    micro_batch = 32
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 25.0  # 5 to 9 steps of the embedded model
    gpu_s_per_megapixel = 0.35
    partner_class = "other"
    params: DiffusionMixParams

    def __init__(self, params: DiffusionMixParams) -> None:
        super().__init__(params)
        self.partner = "mix" if params.mix_with == "row" else None

    def class_requirements(self) -> ClassRequirements:
        """Names of other classes: one of those, or with `mix_with: row` another row's, is what an image becomes."""
        asked, own_class = super().class_requirements(), self.params.mix_with == "row"
        return replace(asked, own_class=own_class, reads_names=True, min_names=2, classless_option=None)

    def draw(self, batch: ImageBatch) -> Draws:
        """Draw the other class and its weight, and what `diffusion_edit` draws for that class."""
        if len(batch.classes) < 2:
            raise InputError(
                "diffusion_mix: the input names no classes (a ClassLabel feature), so there is none to mix"
            )
        own = generators(batch.seeds)
        labels = [int(label) for label in batch.labels]
        rows = required_partners(batch.partners) if self.partner else []
        if self.partner:
            targets = self._targets_of(labels, rows, batch.classes)
        else:
            targets = [self._target(label, batch.classes, each) for label, each in zip(labels, own, strict=True)]
        columns = self.draw_columns(batch, targets, own)
        columns["target"] = targets
        columns["target_name"] = [str(batch.classes[target]) if target >= 0 else None for target in targets]
        if self.params.blend == "half":
            columns["side"] = [SIDES[int(each.integers(len(SIDES)))] for each in own]
        columns["weight"] = [self._weight(strength) for strength in columns["strength"]]
        if not self.partner:
            return Draws(columns)
        columns["partner_row"] = [None if row is None else row.partner.source_row for row in rows]
        return Draws(columns, [[] if row is None else [row.partner] for row in rows])

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Edit towards the other class, and mix the labels."""
        sources = self.sources(batch)
        start, rejected = sources, {}
        if self.partner:
            rows = required_partners(batch.partners)
            start = _mixed(sources, rows, self.params.partner_share)
            rejected = {index: NO_PARTNER for index, row in enumerate(rows) if row is None and batch.labels[index] >= 0}
        made = self.generate(batch, draws, noise, sources=start)
        if "side" in draws.columns:
            from pipeline.diffusion.backends import Output

            made = Output(_halved(made.images, sources, draws.columns["side"]), made.unsafe)
        errors = {}
        for row, (label, target) in enumerate(zip(batch.labels.tolist(), draws.columns["target"], strict=True)):
            if label < 0:
                errors[row] = RowError("no_label", "the row has no label, so there is no other class to mix it with")
            elif target < 0 and row not in rejected:
                errors[row] = RowError("unknown_class", "the model knows no other class of the data set")
        soft = _soft_labels(batch, draws)
        found = self.applied(made, errors, draws, labels=_hard_labels(batch, draws), soft_labels=soft)
        return replace(found, rejected={**found.rejected, **rejected})

    def _target(self, label: int, classes: Sequence[str], generator: np.random.Generator) -> int:
        others = [index for index in range(len(classes)) if index != label]
        unknown = self.indexes(others, classes)[1] if self._backend.class_count else {}
        known = [index for place, index in enumerate(others) if place not in unknown]
        return known[int(generator.integers(len(known)))] if known and label >= 0 else -1

    def _targets_of(
        self, labels: Sequence[int], rows: "Sequence[PartnerRow | None]", names: Sequence[str]
    ) -> list[int]:
        """The classes of the other rows; -1 where there is none that the model knows."""
        targets = [-1 if row is None or label < 0 else row.label for label, row in zip(labels, rows, strict=True)]
        unknown = self.indexes(targets, names)[1] if self._backend.class_count else {}
        return [-1 if row in unknown or target >= len(names) else target for row, target in enumerate(targets)]

    def _weight(self, strength: float) -> float:
        fixed = self.params.label_weight
        weight = strength**self.params.label_power if fixed == "strength" else float(fixed)
        if self.partner:
            weight = 1 - (1 - weight) * (1 - self.params.partner_share)
        return weight / 2 if self.params.blend == "half" else weight


def _soft_labels(batch: ImageBatch, draws: Draws) -> npt.NDArray[np.float32]:
    """[N, classes]: `weight` for the other class, the rest for the source's; rows that are errors have one class."""
    soft = np.zeros((len(batch), len(batch.classes)), dtype=np.float32)
    for row, (label, target) in enumerate(zip(batch.labels.tolist(), draws.columns["target"], strict=True)):
        weight = draws.columns["weight"][row] if target >= 0 else 0.0
        soft[row, max(label, 0)] += 1 - weight
        soft[row, max(target, 0)] += weight
    return soft


def _hard_labels(batch: ImageBatch, draws: Draws) -> npt.NDArray[np.int64]:
    """[N]: the other class where it has more than half the weight."""
    columns = draws.columns
    labels = [
        target if target >= 0 and weight > 0.5 else int(label)
        for label, target, weight in zip(batch.labels, columns["target"], columns["weight"], strict=True)
    ]
    return np.array(labels, dtype=np.int64)


def _mixed(sources: Any, rows: "Sequence[PartnerRow | None]", share: float) -> Any:
    """Sources [N, C, H, W] with a share of the other rows' pixels; alone where there is none."""
    import torch

    from pipeline.networks.pixel_tensors import from_pixels, with_channels, with_size

    mixed = sources.clone()
    for place, row in enumerate(rows):
        if row is not None:
            other = from_pixels(torch.from_numpy(row.pixels.copy())[None]).to(sources.device)
            fitted = with_size(with_channels(other, sources.shape[1]), tuple(sources.shape[-2:]))
            mixed[place] = (1 - share) * sources[place] + share * fitted[0]
    return mixed


def _halved(images: Any, sources: Any, sides: Sequence[str]) -> Any:
    """Edited images [N, C, S, S] with the source's half on the side each says."""
    from pipeline.networks.pixel_tensors import with_channels, with_size

    size = images.shape[-1]
    fitted = with_size(with_channels(sources, images.shape[1]), size)
    halves = {
        "left": (slice(None), slice(0, size // 2)),
        "right": (slice(None), slice(size - size // 2, None)),
        "top": (slice(0, size // 2), slice(None)),
        "bottom": (slice(size - size // 2, None), slice(None)),
    }
    mixed = images.clone()
    for row, side in enumerate(sides):
        rows, columns = halves[side]
        mixed[row, :, rows, columns] = fitted[row, :, rows, columns]
    return mixed
