"""What operators and gates are given to load, and what an output was made with beside its source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


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
    """What must be there to load: model references and sets of reference images, by field name."""

    models: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Supply:
    """What the plan found for `Needs`: local model files and reference images, by field name."""

    models: Mapping[str, Path] = field(default_factory=dict)
    images: Mapping[str, Sequence[ReferenceImage]] = field(default_factory=dict)
