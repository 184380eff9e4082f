"""The base classes of operators and gates, and the batches they exchange. Read this page first.

    source row ──decode──▶ ImageBatch ──Operator.draw──▶ Draws ──Operator.apply──▶ Applied
               ──Gate.score──▶ kept, or refused and made again ──encode──▶ output row

An operator makes or changes images in two steps: `draw` chooses all random values, `apply` computes the images. The
drawn values go into the lineage, so that the same image can be made again. A gate scores finished images.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import RowError
from pipeline.noise import Noise
from pipeline.requirements import Assets, Partner, PartnerRow, Pixels, ReferenceImage, Requirements
from schemas.closed import Closed

__all__ = ["Assets", "Partner", "PartnerRow", "Pixels", "ReferenceImage", "Requirements"]  # and what is defined here


class Parameters(Closed):
    """Base of all parameters: unknown keys are errors. Names carry their unit (`_px`); intervals end in `_range`."""


@dataclass(frozen=True)
class ImageBatch:
    """N samples of one size. `images` is [N, H, W, C] uint8, C = 1 (grey) or 3 (RGB); None for a generative operator.

    `seeds` [N] are the seeds of this step, `labels` [N] int64 class indexes (-1: none), `classes` their names,
    `columns` the input columns beside the image (N values each), `partners` [N] rows, if the operator asks for them.
    """

    images: Pixels | None
    seeds: Sequence[int]
    labels: npt.NDArray[np.int64]
    classes: Sequence[str] = ()
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    partners: Sequence[PartnerRow | None] | None = None  # None at an index: its unit has no other usable row

    def __len__(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class Draws:
    """What `draw` chose: N JSON values for each name, and the partners of each of the N samples."""

    columns: Mapping[str, Sequence[Any]]
    partners: Sequence[Sequence[Partner]] | None = None

    def row(self, index: int) -> dict[str, Any]:
        """Return the values drawn for sample `index`, as they go into the lineage."""
        return {name: values[index] for name, values in self.columns.items()}


@dataclass(frozen=True)
class Applied:
    """What `apply` made: `images` [N, H', W', C'] uint8, in the order of the batch, contiguous, in memory of their own.

    `rejected` {index: reason}: images that must not be trained on. `errors` {index: RowError}: images that could not
    be made. `labels` [N] and `soft_labels` [N, classes] float32 replace the class, if the operator changes it.
    """

    images: Pixels
    labels: npt.NDArray[np.int64] | None = None
    soft_labels: npt.NDArray[np.float32] | None = None
    rejected: Mapping[int, str] = field(default_factory=dict)
    errors: Mapping[int, RowError] = field(default_factory=dict)


class Part(ABC):
    """Base of operators and gates. `__init__` must be fast and import no torch; `load` does the expensive work."""

    name: ClassVar[str]
    version: ClassVar[int]  # raise it whenever output bytes, or a score, may change
    source: ClassVar[str]  # the paper or library that the method is from
    Params: ClassVar[type[Parameters]]
    micro_batch: ClassVar[int] = 32  # images a call; a recipe can change it for operators
    uses_torch: ClassVar[bool] = True

    def __init__(self, params: Any) -> None:
        self.params = params

    def requirements(self) -> Requirements:
        """Return the models, images and columns that are needed; the plan finds them, or refuses the recipe."""
        return Requirements()

    def load(self, device: str, assets: Assets) -> None:  # noqa: B027 - most hold no model
        """Load models onto `device` (`cpu` or `cuda`). Called once an actor, before `draw`, `apply` or `score`."""


class Operator(Part):
    """One way to make or change images: an augmentation, or a generator."""

    gpus: ClassVar[float] = 0.0  # share of a GPU one actor holds, unless the recipe says otherwise
    geometric: ClassVar[bool] = False  # moves pixels, so boxes and masks no longer fit
    generative: ClassVar[bool] = False  # needs no source image
    changes_labels: ClassVar[bool] = False  # images may be of another class than their source (soft labels)
    digital_source_type: ClassVar[str] = "algorithmicallyEnhanced"  # IPTC term of what comes out
    partner: str | None = None  # set: each image gets another row of its unit, in this role
    partner_class: Literal["any", "other"] = "any"  # other: a row of another class than the image
    once_per_call: tuple[str, ...] = ()  # drawn values that must be equal within one call of `apply`
    cpu_s_per_megapixel: ClassVar[float] = 0.05  # of one thread, for the estimate of `plan`
    gpu_s_per_megapixel: ClassVar[float] = 0.005

    @abstractmethod
    def draw(self, batch: ImageBatch) -> Draws:
        """Choose all random values of each sample from its own seed, size, label, columns and partner alone."""

    @abstractmethod
    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Compute the images. Randomness comes from `draws` and `noise` only; a result never depends on the batch."""


@dataclass(frozen=True)
class MadeBatch:
    """N finished images of one size, for a gate: `images` [N, H, W, C] uint8, and `sources` [N, h, w, c] uint8 or None.

    `labels` [N] int64 are class indexes (-1: none) among `classes`, `prompts` [N] the drawn prompts (None: none).
    """

    images: Pixels
    sources: Pixels | None
    labels: npt.NDArray[np.int64]
    classes: Sequence[str]
    prompts: Sequence[str | None]


class Gate(Part):
    """A quality check: it scores finished images before they are marked and encoded. Each score goes into the row."""

    requires_source: ClassVar[bool] = False  # scores only images that have a source row
    s_per_image: ClassVar[tuple[float, float]] = (0.001, 0.001)  # on a CPU thread, on a GPU; for the estimate of `plan`

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest score of an image that is kept; any other score, and NaN, is refused."""

    @abstractmethod
    def score(self, batch: MadeBatch) -> npt.NDArray[np.float32]:
        """Return [N] scores; each depends on its own image alone."""
