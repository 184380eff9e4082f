"""What operators and gates are given to load, and what an output was made with beside its source."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
NO_PARTNER = "no_partner"
"""Why an image is rejected whose unit has no further row for it."""


@dataclass(frozen=True)
class Partner:
    """A further image that an output was made with, and its role: `style`, `mix`, `mask`, `pair`."""

    role: str
    source_uri: str
    sha256: str
    source_row: int | None = None
    source_id: str | None = None


@dataclass(frozen=True)
class PartnerRow:
    """Another row of a unit that one of its images is made with, and its `pixels` [h, w, 1 or 3] uint8 as read.

    `label` is its class index, -1 where it has none.
    """

    partner: Partner
    pixels: Pixels
    label: int = -1


def given(partners: Sequence[PartnerRow | None] | None) -> list[PartnerRow | None]:
    """Return a batch's partners, for an operator that wants them. Raises RuntimeError where nobody looked for any."""
    if partners is None:
        raise RuntimeError("the batch holds no partners; whoever made it does not heed `Operator.partner`")
    return list(partners)


@dataclass(frozen=True)
class ReferenceImage:
    """One image of a reference set (a style, for instance), as encoded bytes."""

    uri: str
    sha256: str
    data: bytes


@dataclass(frozen=True)
class ClassRequirements:
    """What a part does with the class that an image is, or is to be, of.

    `model` is the field of a model that is told the class, where it knows classes: `own`, the image's, or another one
    of the input. `drawn`: an image without a class gets one. `names`: it reads the names of classes an image is not of,
    at least `min_names` of them. `texts` are templates by field; `{label}` in one stands for the class's name, and must
    have one. `prompts` are those that only a model that takes texts reads, `pulls` those that only one that knows
    classes does.
    `unnamed`: the parameter that has images go without a class, where there is one; `blank`: what does so already.
    """

    model: str | None = None
    own: bool = True
    drawn: bool = False
    names: bool = False
    min_names: int = 0
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    prompts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pulls: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unnamed: str | None = None
    blank: str | None = None


@dataclass(frozen=True)
class Requirements:
    """What must be there: model references and sets of reference images, by field name, and input columns.

    `columns` are what `draw` and `apply` read beside the label, by the field that names them. With `fitted`, the images
    are what `prepare` fits an artifact to (`Fittable`); `load` gets that, and not the images. `classes`: what it does
    with an image's class; None: nothing.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    fitted: bool = False
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: ClassRequirements | None = None


@dataclass(frozen=True)
class Assets:
    """What the plan found for `Requirements`: local model files and reference images, by field name.

    And the recipe's `numerics` that a part may heed: `dtype` of its networks, and images of a call at most.
    """

    models: Mapping[str, Path] = field(default_factory=dict)
    images: Mapping[str, Sequence[ReferenceImage]] = field(default_factory=dict)
    fitted: bytes | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    micro_batch: int | None = None


class Fittable(ABC):
    """An operator whose units need something of a whole reference set, that is made once and not by every worker."""

    @abstractmethod
    def fit(self, assets: Assets) -> bytes:
        """Return what to store for all units, made on the CPU from the models and images of `assets`.

        Raises JobError where they are not fit for it.
        """
