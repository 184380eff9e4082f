"""Classes of the input: from a stored label to its class index and back, by one table.

    labels in the shards                      index of a label                        its name
    ────────────────────────────────────────  ──────────────────────────────────────  ──────────────────────────────
    text, plain or as a dictionary            its place among the names               the text itself
    whole numbers, also as floats (pandas)    the number                              of that index, where names exist
    booleans                                  false 0, true 1                         of that index, where names exist

A null, a negative number, NaN and a blank text are no class: -1, and the stored value is carried as it is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import pyarrow as pa

from pipeline.shards.columns.column_types import is_string, plain

NO_CLASS: Final = -1
MAX_INDEX: Final = 2**63 - 1

LabelKind = Literal["text", "whole", "float", "truth", "none"]


def label_kind(kind: pa.DataType) -> LabelKind | None:
    """Return how labels of an Arrow type are read: `none` for nulls only; None for a type without classes."""
    kind = plain(kind)
    if is_string(kind):
        return "text"
    if pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_boolean(kind):
        return "truth"
    return "none" if pa.types.is_null(kind) else None


@dataclass(frozen=True)
class ClassTable:
    """Class names by index, and how labels are stored. Integers and booleans have an index even without names."""

    names: tuple[str, ...] = ()
    kind: LabelKind = "whole"

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def index(self, label: Any) -> int:
        """Return the class index of a stored label; -1 for no class, or a text that is not among the names."""
        if label is None:
            return NO_CLASS
        if self.kind == "text":
            return NO_CLASS if not str(label).strip() else self._places.get(str(label), NO_CLASS)
        if self.kind == "none" or not isinstance(label, int | float):
            return NO_CLASS
        if not 0 <= label <= MAX_INDEX or label != int(label):  # NaN and infinity are not between
            return NO_CLASS
        return int(label)

    def value(self, index: int) -> Any:
        """Return the label that stands for a class index, in the type of the input; None if the type cannot hold it."""
        if index < 0:
            return None
        if self.kind == "text":
            return self.names[index] if index < len(self.names) else None
        if self.kind == "truth":
            return bool(index) if index < 2 else None
        if self.kind == "float":
            return float(index)
        return index if self.kind == "whole" else None

    def name(self, index: int) -> str | None:
        """Return the name of a class index; None for no class, and for a class without a name."""
        return self.names[index] if 0 <= index < len(self.names) else None


def repeated(names: Sequence[str]) -> list[str]:
    """Return the names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]
