"""The nouns everything else is built from. Read this page first.

    source row ──decode──▶ ImageBatch ──Operator.draw──▶ Draws ──Operator.apply──▶ Applied
               ──Gate.score──▶ kept, or refused and made again ──encode──▶ output row

An operator is a class with parameters. It decides (`draw`) before it acts (`apply`): what it decided goes into the
lineage, so the same image can be made again. It never asks for randomness of its own. A gate judges what came out.
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
    """Base of all parameters: closed, frozen; units in names (`_px`), intervals end in `_range`."""


@dataclass(frozen=True)
class ImageBatch:
    """N samples of one size. `images` is [N, H, W, C] uint8, C = 1 (grey) or 3 (RGB); None for synthesis.

    `seeds` [N] are the step seeds, `labels` [N] int64 class indexes (-1: none), `classes` their names,
    `columns` the light input columns (N values each), `partners` [N] further rows where the operator wants them.
    """

    images: Pixels | None
    seeds: Sequence[int]
    labels: npt.NDArray[np.int64]
    classes: Sequence[str] = ()
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    partners: Sequence[PartnerRow | None] | None = None  # None at an image: its unit has no other usable row

    def __len__(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class Draws:
    """What was drawn: N JSON values a column, and the partners of each of the N samples."""

    columns: Mapping[str, Sequence[Any]]
    partners: Sequence[Sequence[Partner]] | None = None

    def row(self, index: int) -> dict[str, Any]:
        """Return the drawn values of sample `index`, as they go into the lineage."""
        return {name: values[index] for name, values in self.columns.items()}


@dataclass(frozen=True)
class Applied:
    """What came out: `images` [N, H', W', C'] uint8, contiguous, sharing no memory with the batch, in its order.

    `rejected` {index: reason} are images that exist but must not be trained on; `errors` {index: RowError} have none.
    `labels` replaces the class, `soft_labels` [N, classes] float32 the distribution, where the operator changes them.
    """

    images: Pixels
    labels: npt.NDArray[np.int64] | None = None
    soft_labels: npt.NDArray[np.float32] | None = None
    rejected: Mapping[int, str] = field(default_factory=dict)
    errors: Mapping[int, RowError] = field(default_factory=dict)


class Part(ABC):
    """What operators and gates have in common. `__init__` is cheap, picklable, imports no torch; `load` runs once."""

    name: ClassVar[str]
    version: ClassVar[int]  # goes up whenever output bytes, or a score, may change
    source: ClassVar[str]  # the paper or library the arithmetic comes from
    Params: ClassVar[type[Parameters]]
    micro_batch: ClassVar[int] = 32  # images a call; of an operator, unless the recipe says otherwise
    uses_torch: ClassVar[bool] = True

    def __init__(self, params: Any) -> None:
        self.params = params

    def requirements(self) -> Requirements:
        """Return the models and reference images that `load` must be given."""
        return Requirements()

    def load(self, device: str, assets: Assets) -> None:  # noqa: B027 - most hold no model
        """Bring models to `device` (`cpu`, `cuda`). Called once per actor, before anything else."""


class Operator(Part):
    """One augmentation."""

    gpus: ClassVar[float] = 0.0  # share of a GPU one actor holds, unless the recipe says otherwise
    geometric: ClassVar[bool] = False  # moves pixels, so boxes and masks would no longer fit
    generative: ClassVar[bool] = False  # needs no source image
    digital_source_type: ClassVar[str] = "algorithmicallyEnhanced"  # IPTC term of what comes out
    partner: str | None = None  # role of a further row of its unit that each image is given, drawn by seed
    partner_class: Literal["any", "other"] = "any"  # other: of a class that the image's source is not of
    once_per_call: tuple[str, ...] = ()  # drawn columns that one call takes one value of; `load` may know better
    cpu_s_per_megapixel: ClassVar[float] = 0.05  # for the estimate of `plan`, one thread
    gpu_s_per_megapixel: ClassVar[float] = 0.005

    @abstractmethod
    def draw(self, batch: ImageBatch) -> Draws:
        """Decide, as a pure function of `batch.seeds` and sizes. Must not look at any other sample of the batch."""

    @abstractmethod
    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Act. Everything random comes from `draws` or from `noise`; nothing may depend on the place in the batch."""


@dataclass(frozen=True)
class MadeBatch:
    """N finished images of one size. `images` [N, H, W, C] uint8 and their `sources` [N, h, w, c], None for synthesis.

    What they are meant to be: `labels` [N] int64 (-1: none) of `classes`, and drawn `prompts` [N] (None: none).
    """

    images: Pixels
    sources: Pixels | None
    labels: npt.NDArray[np.int64]
    classes: Sequence[str]
    prompts: Sequence[str | None]


class Gate(Part):
    """One judgement of finished images, before they are marked and encoded. Its score is written beside each image."""

    requires_source: ClassVar[bool] = False  # cannot judge an image without a source row
    min_classes: int = 0  # class names the input must have; the parameters may raise it
    s_per_image: ClassVar[tuple[float, float]] = (0.001, 0.001)  # on a CPU thread, on a GPU; for the estimate of `plan`

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """The least and the most score of an image that is kept: any other score, NaN too, is refused."""

    @abstractmethod
    def score(self, batch: MadeBatch) -> npt.NDArray[np.float32]:
        """Return [N] scores, a pure function of each image alone."""
