"""Splits: which part of a data set a shard, or a row, belongs to.

A shard's split is that of its folder `split=...`; else that of the innermost folder whose name contains a split; else
that of its file name: the word before `-00000-of-00005`, its first word, or the last word that is a split. These words
count, in any case and among others (`mnist_test.parquet`, `val2017/`, `PublicTest.parquet`); the name used here is
first:

    train: training    validation: valid, val, dev    test: testing, eval, evaluation, holdout, heldout
    trainval           unlabeled: unlabelled

If one numbered shard has such a split, the word before the number is the split of every numbered shard: `extra` of
`extra-00000-of-00002.parquet` beside `train-00000-of-00005.parquet`.

A column can hold splits as well, by its name and its values: see `split_names`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.name_words import split_words

SPLIT: Final = "split"
"""Name of the partition folder, or the column, that holds splits."""
_WORDS: Final = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test", "holdout": "test", "heldout": "test",
    "trainval": "trainval", "unlabeled": "unlabeled", "unlabelled": "unlabeled",
}  # fmt: skip
_COLUMN_WORDS: Final = frozenset((
    "split", "splits", "set", "subset", "partition", "phase", "usage", "dataset", "mode", "stage", "type", "group",
    "fold", "train", "test",
))  # fmt: skip
_FLAGS: Final = frozenset(("train", "training", "test", "testing", "val", "validation", "holdout", "heldout"))
_BESIDE_FLAGS: Final = frozenset(("is", "in", "image", "images", "img", "set", "split", "sample", "data", "row"))
MAX_SPLITS: Final = 20
"""Most distinct values of a column of splits; a column with more holds something else."""
_NUMBERED: Final = re.compile(r"(?:^|[-_.])([a-z]+)-\d+-of-\d+\.", re.IGNORECASE)


def called(name: str) -> str:
    """Return the usual name of a split: `train` for `Training`; an unknown name is returned unchanged."""
    return _WORDS.get(name.lower(), name)


def splits_of(shards: Sequence[Shard]) -> list[str | None]:
    """Return the split of each shard; None for a shard in no split."""
    found = [_split_of(shard) for shard in shards]
    before = [_before_number(shard.path.rpartition("/")[2]) for shard in shards]
    if any(split is not None and name is not None for split, name in zip(found, before, strict=True)):
        found = [split or name for split, name in zip(found, before, strict=True)]
    return found


def _split_of(shard: Shard) -> str | None:
    for key, value in reversed(shard.partitions):
        if key.lower() == SPLIT and value is not None:
            return called(value)
    *folders, file = shard.path.split("/")
    found = [split for folder in folders if (split := _split_in(folder)) is not None]
    return found[-1] if found else _split_in(file)


def _before_number(file: str) -> str | None:
    found = _NUMBERED.search(file)
    return None if found is None else found[1].lower()


def _split_in(name: str) -> str | None:
    """Return the split that a name contains; None for none."""
    numbered, words = _before_number(name), [word for word in split_words(name) if not word.isdigit()]
    for word in ([numbered] if numbered else []) + words[:1] + words[::-1]:
        if word in _WORDS:
            return _WORDS[word]
    return None


def may_be_split_column(column: str) -> bool:
    """Return whether a column may hold splits, by its name."""
    return bool(_COLUMN_WORDS & set(split_words(column))) or _flag(column) is not None


def split_names(column: str, values: Iterable[Any], classes: Sequence[str] = ()) -> dict[Any, str]:
    """Return the split of each distinct value of a column, nulls left out; empty if the column holds no splits.

    Text values are splits in a column `split`, and in columns with a similar name (`subset`, `Usage`, ...) if each
    value contains one. Numbers are splits in a column `split`, and elsewhere if their class names are splits. In a
    column such as `is_train` or `test`, true and false (or 1 and 0) tell its split from the rest.

    Args:
        classes: the class names of the column, where it holds their indexes.
    """
    said = [value for value in values if value is not None]
    if not said or len(said) > MAX_SPLITS or not may_be_split_column(column):
        return {}
    flag = _flag(column)
    if flag is not None and all(value in (0, 1) for value in said):
        return {value: flag if value else f"not {flag}" for value in said}
    if classes and all(isinstance(value, int) and 0 <= value < len(classes) for value in said):
        names = {value: classes[value] for value in said}
    else:
        names = {value: str(value) for value in said}
    whole = column.lower() == SPLIT and not any(isinstance(value, float) for value in said)
    splits = whole or all(_split_in(name) is not None for name in names.values())
    return {value: called(name) for value, name in names.items()} if splits else {}


def _flag(column: str) -> str | None:
    """Return the split that a boolean column marks, by its name (`is_train`: `train`); None for other columns."""
    words = [word for word in split_words(column) if word not in _BESIDE_FLAGS]
    return _WORDS[words[0]] if len(words) == 1 and words[0] in _FLAGS else None


def rows_by_split(shards: Iterable[Shard], splits: Iterable[str | None]) -> dict[str | None, int]:
    """Return the number of rows of each split; the key None is for shards in no split."""
    rows: dict[str | None, int] = {}
    for shard, split in zip(shards, splits, strict=True):
        rows[split] = rows.get(split, 0) + shard.rows
    return rows
