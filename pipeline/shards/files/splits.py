"""Splits: which part of a data set a shard, or a row, belongs to.

A shard's split is what a folder `split=...` says; else what the innermost of its folders says that says one; else what
its file name says: before `-00000-of-00005`, in its first word, or in its last that is a split's. A name says a split
by these words alone, in any case, among others (`mnist_test.parquet`, `val2017/`, `PublicTest.parquet`); what they are
called here stands first:

    train: training    validation: valid, val, dev    test: testing, eval, evaluation, holdout, heldout
    trainval           unlabeled: unlabelled

Beside a shard that is numbered and says a split, every numbered one says what stands before its number: `extra` of
`extra-00000-of-00002.parquet` beside `train-00000-of-00005.parquet`.

In a table a column says splits by its name and its values: see `split_names`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.name_words import split_words

SPLIT: Final = "split"
"""The folder key and the column that state splits."""
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
"""Values of a column of splits; one of more is called so for another reason."""
_NUMBERED: Final = re.compile(r"(?:^|[-_.])([a-z]+)-\d+-of-\d+\.", re.IGNORECASE)


def called(name: str) -> str:
    """Return what a split is called here: `train` for `Training`; a name of the data's own stays as it is."""
    return _WORDS.get(name.lower(), name)


def splits_of(shards: Sequence[Shard]) -> list[str | None]:
    """Return the split of each shard; None where nothing says one."""
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
    found = [said for folder in folders if (said := _said(folder)) is not None]
    return found[-1] if found else _said(file)


def _before_number(file: str) -> str | None:
    found = _NUMBERED.search(file)
    return None if found is None else found[1].lower()


def _said(name: str) -> str | None:
    """Return the split that a name says; None for none."""
    numbered, words = _before_number(name), [word for word in split_words(name) if not word.isdigit()]
    for word in ([numbered] if numbered else []) + words[:1] + words[::-1]:
        if word in _WORDS:
            return _WORDS[word]
    return None


def may_be_split_column(column: str) -> bool:
    """Return whether a column may say splits, by its name."""
    return bool(_COLUMN_WORDS & set(split_words(column))) or _flag(column) is not None


def split_names(column: str, values: Iterable[Any], classes: Sequence[str] = ()) -> dict[Any, str]:
    """Return what the distinct values of a column call splits, nulls left out; nothing where they are none.

    Texts are splits in a column `split`, and in others of such a name (`subset`, `Usage`, ...) where each says one.
    Numbers are in a column `split`, and those with class names where these are. In a column such as `is_train` or
    `test`, true and false (or 1 and 0) are.

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
    splits = whole or all(_said(name) is not None for name in names.values())
    return {value: called(name) for value, name in names.items()} if splits else {}


def _flag(column: str) -> str | None:
    """Return the split whose rows a column of yes and no marks, by its name; None for another column."""
    words = [word for word in split_words(column) if word not in _BESIDE_FLAGS]
    return _WORDS[words[0]] if len(words) == 1 and words[0] in _FLAGS else None


def rows_by_split(shards: Iterable[Shard], splits: Iterable[str | None]) -> dict[str | None, int]:
    """Return the rows of each split; None: of shards that are in none."""
    rows: dict[str | None, int] = {}
    for shard, split in zip(shards, splits, strict=True):
        rows[split] = rows.get(split, 0) + shard.rows
    return rows
