"""Matching the classes of a data set with the classes of a model, by name or by index. Imports no torch."""

import functools
from collections.abc import Mapping, Sequence

from pipeline.errors import RowError

UNKNOWN_CLASS = "unknown_class"
NO_CLASS = -1
_SHOWN = 12


def class_indexes(
    labels: Sequence[int], names: Sequence[str], known: Sequence[str], count: int
) -> tuple[list[int], dict[int, RowError]]:
    """The model's class index of every label (-1: none), and a RowError `unknown_class` where the model has no such.

    Args:
        labels: class indexes of the data set, -1 where a row has none.
        names: the data set's class names; classes are matched by name where both sides have names (`matching_class`),
            else by index: two data sets rarely number their classes alike.
        known: the model's class names, empty where it has none; one may list several, between commas (ImageNet's).
        count: how many classes the model has.
    """
    by_name = bool(names) and bool(known)
    indexes, errors = [], {}
    for row, label in enumerate(int(label) for label in labels):
        if label < 0:
            found: int | None = NO_CLASS
        elif by_name:
            found = matching_class(names[label], known) if label < len(names) else None
        else:
            found = label if label < count else None
        if found is None:
            said = repr(names[label]) if by_name and label < len(names) else str(label)
            more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
            has = f"{', '.join(known[:_SHOWN])}{more}" if known else f"0 to {count - 1}"
            errors[row] = RowError(UNKNOWN_CLASS, f"the model has no class {said}; it has: {has}")
        indexes.append(NO_CLASS if found is None else found)
    return indexes, errors


def matching_class(name: str, known: Sequence[str]) -> int | None:
    """Return the index of the class with this name; None where there is none, or more than one.

    Case, spaces and punctuation do not count. A whole name is tried before the parts of names that list several.
    """
    whole, parts = _places(tuple(known))
    plain = _normalised(name)
    return whole[plain] if plain in whole else parts.get(plain)


@functools.lru_cache(maxsize=64)
def _places(known: tuple[str, ...]) -> tuple[Mapping[str, int | None], Mapping[str, int | None]]:
    """Index by whole name, and by part of a name; None where two classes share it (ImageNet has two cranes)."""
    found: tuple[dict[str, int | None], dict[str, int | None]] = ({}, {})
    for index, name in enumerate(known):
        for places, texts in zip(found, ([name], name.split(",")), strict=True):
            for plain in {_normalised(text) for text in texts}:
                places[plain] = index if places.get(plain, index) == index else None
    return found


def _normalised(name: str) -> str:
    """Return a name's lower-case letters and digits; the whole name where it has none, so that `+` is not `-`."""
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name.strip()
