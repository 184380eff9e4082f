"""The nouns everything else is built from. Read this page first.

    source row ──decode──▶ ImageBatch ──Operator.draw──▶ Draws ──Operator.apply──▶ Applied ──encode──▶ output row

An operator is a class with parameters. It decides (`draw`) before it acts (`apply`): what it decided goes into the
lineage, so the same image can be made again. It never asks for randomness of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pipeline.errors import RowError

if TYPE_CHECKING:
    from pipeline.noise import Noise

Pixels = npt.NDArray[np.uint8]


class Parameters(BaseModel):
    """Base of every operator's parameters: closed, frozen; units in names (`_px`), intervals end in `_range`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Partner:
    """A further image that an output was made with, and its role: `style`, `mix`, `mask`, `pair`."""

    role: str
    source_uri: str
    sha256: str
    source_row: int | None = None
    source_id: str | None = None


@dataclass(frozen=True)
class ReferenceImage:
    """One image of a reference set (a style, for instance), as encoded bytes."""

    uri: str
    sha256: str
    data: bytes


@dataclass(frozen=True)
class Needs:
    """What an operator must be given to load: model references and sets of reference images, by field name."""

    models: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Supply:
    """What the plan found for an operator's `Needs`: local model files and reference images, by field name."""

    models: Mapping[str, Path] = field(default_factory=dict)
    images: Mapping[str, Sequence[ReferenceImage]] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageBatch:
    """N samples of one size. `images` is [N, H, W, C] uint8, C = 1 (grey) or 3 (RGB); None for synthesis.

    `seeds` [N] are the step seeds, `labels` [N] int64 class indexes (-1: none), `classes` their names,
    `columns` the light input columns (N values each).
    """

    images: Pixels | None
    seeds: Sequence[int]
    labels: npt.NDArray[np.int64]
    classes: Sequence[str] = ()
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

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


class Operator(ABC):
    """One augmentation. `__init__` is cheap, picklable and imports no torch; `load` runs once per actor."""

    name: ClassVar[str]
    version: ClassVar[int]  # goes up whenever output bytes may change
    source: ClassVar[str]  # the paper or library the arithmetic comes from
    Params: ClassVar[type[Parameters]]
    gpus: ClassVar[float] = 0.0  # share of a GPU one actor holds, unless the recipe says otherwise
    micro_batch: ClassVar[int] = 32  # images a call, unless the recipe says otherwise
    geometric: ClassVar[bool] = False  # moves pixels, so boxes and masks would no longer fit
    generative: ClassVar[bool] = False  # needs no source image
    uses_torch: ClassVar[bool] = True
    digital_source_type: ClassVar[str] = "algorithmicallyEnhanced"  # IPTC term of what comes out
    once_per_call: tuple[str, ...] = ()  # drawn columns that one call takes one value of; `load` may know better
    cpu_s_per_megapixel: ClassVar[float] = 0.05  # for the estimate of `plan`, one thread
    gpu_s_per_megapixel: ClassVar[float] = 0.005

    def __init__(self, params: Any) -> None:
        self.params = params

    def needs(self) -> Needs:
        """Return the models and reference images this operator reads."""
        return Needs()

    def load(self, device: str, supply: Supply) -> None:  # noqa: B027 - most operators hold no model
        """Bring models to `device` (`cpu`, `cuda`). Called once per actor, before the first `draw`."""

    @abstractmethod
    def draw(self, batch: ImageBatch) -> Draws:
        """Decide, as a pure function of `batch.seeds` and sizes. Must not look at any other sample of the batch."""

    @abstractmethod
    def apply(self, batch: ImageBatch, draws: Draws, noise: "Noise") -> Applied:
        """Act. Everything random comes from `draws` or from `noise`; nothing may depend on the place in the batch."""
