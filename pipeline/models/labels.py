"""From the labels of a data set to the classes of a model. Imports no torch."""

from collections.abc import Sequence

from pipeline.errors import RowError

UNKNOWN_CLASS = "unknown_class"
NO_CLASS = -1


def class_indexes(
    labels: Sequence[int], names: Sequence[str], known: Sequence[str], count: int
) -> tuple[list[int], dict[int, RowError]]:
    """The model's class index of every label (-1: none), and a RowError `unknown_class` where the model has no such.

    Args:
        labels: class indexes of the data set, -1 where a row has none.
        names: the data set's class names; classes are matched by name where both sides have names (case, spaces and
            punctuation aside), else by index: two data sets rarely number their classes alike.
        known: the model's class names, empty where it has none; one may list several, between commas (ImageNet's).
        count: how many classes the model has.
    """
    places = {_plain(part): index for index, name in enumerate(known) for part in (*name.split(","), name)}
    by_name = bool(names) and bool(known)
    indexes, errors = [], {}
    for row, label in enumerate(int(label) for label in labels):
        if label < 0:
            found: int | None = NO_CLASS
        elif by_name:
            found = places.get(_plain(names[label])) if label < len(names) else None
        else:
            found = label if label < count else None
        if found is None:
            said = repr(names[label]) if by_name and label < len(names) else str(label)
            has = ", ".join(known) if known else f"0 to {count - 1}"
            errors[row] = RowError(UNKNOWN_CLASS, f"the model has no class {said}; it has: {has}")
        indexes.append(NO_CLASS if found is None else found)
    return indexes, errors


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
