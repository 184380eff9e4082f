"""What operators and gates require and are given: model files, reference images, partner rows, columns, classes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
SOURCE_TYPES = ("algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia")
"""IPTC terms of what operators make, weakest first; a chain is what its strongest step is."""
NO_PARTNER = "no_partner"
"""The reason in `rejected/` of an image for which its unit had no partner row."""


@dataclass(frozen=True)
class Partner:
    """An image that an output was made with beside its source. `role` is `style`, `mix`, `mask` or `pair`."""

    role: str
    source_uri: str
    sha256: str
    source_row: int | None = None
    source_id: str | None = None


@dataclass(frozen=True)
class PartnerRow:
    """Another row of the same unit, given to an operator to mix with an image.

    `pixels` is [h, w, 1 or 3] uint8, as decoded; `label` is the class index, -1 for none.
    """

    partner: Partner
    pixels: Pixels
    label: int = -1


def required_partners(partners: Sequence[PartnerRow | None] | None) -> list[PartnerRow | None]:
    """Return the partner rows of a batch. Raises RuntimeError where the caller supplied none."""
    if partners is None:
        raise RuntimeError("the batch holds no partners; its caller ignored `Operator.partner`")
    return list(partners)


@dataclass(frozen=True)
class ReferenceImage:
    """One image of a reference set, such as a style image, as encoded bytes."""

    uri: str
    sha256: str
    data: bytes


@dataclass(frozen=True)
class ClassRequirements:
    """What an operator or a gate does with the class of an image. `{label}` in a text stands for the class's name.

    Attributes:
        model: the parameter that names a model which gets a class, if that model knows classes.
        own_class: the model gets the image's own class; otherwise another class of the input.
        draws_class: an image that has no class is given one by `draw`.
        reads_names: names of classes are read that the image is not of.
        min_names: how many class names the input must have.
        templates: texts by parameter; each image needs a class name wherever one of them holds `{label}`.
        text_prompts: the same, read only by a model that takes texts.
        guidance_prompts: the same, read only beside a model that knows classes.
        classless_option: the setting with which images go without a class, for the message that suggests it.
        classless_by: the setting of this recipe that already makes them go without one.
    """

    model: str | None = None
    own_class: bool = True
    draws_class: bool = False
    reads_names: bool = False
    min_names: int = 0
    templates: Mapping[str, Sequence[str]] = field(default_factory=dict)
    text_prompts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    guidance_prompts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classless_option: str | None = None
    classless_by: str | None = None


@dataclass(frozen=True)
class Requirements:
    """What an operator or a gate requires; keys are the names of its parameters.

    Attributes:
        models: model references, by parameter.
        images: references of image sets, by parameter.
        fitted: the images are fitted once, by `prepare` (see `Fittable`); `load` gets the result and no images.
        columns: input columns that `draw` and `apply` read beside the label, by parameter.
        classes: how classes are used; None: not at all.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    fitted: bool = False
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: ClassRequirements | None = None


@dataclass(frozen=True)
class Assets:
    """What `load` is given: the files of `Requirements`, and two settings of the recipe's `numerics`.

    Attributes:
        models: local model files, by parameter.
        images: reference images, by parameter.
        fitted: the result of `Fittable.fit`, where `Requirements.fitted` asks for it.
        dtype: number type of the networks.
        micro_batch: largest number of images a call; None: the operator's own.
    """

    models: Mapping[str, Path] = field(default_factory=dict)
    images: Mapping[str, Sequence[ReferenceImage]] = field(default_factory=dict)
    fitted: bytes | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    micro_batch: int | None = None


class Fittable(ABC):
    """An operator that fits something to its whole reference set, once a run instead of once a worker."""

    @abstractmethod
    def fit(self, assets: Assets) -> bytes:
        """Return what was fitted to the models and images of `assets`, as bytes to store; runs on the CPU.

        Raises:
            JobError: the images cannot be used for it.
        """
