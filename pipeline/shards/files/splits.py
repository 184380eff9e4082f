"""Splits: which part of a data set a shard belongs to, by its folders and its name.

A shard's split is what a folder `split=...` says; else what the innermost of its folders says that says one; else what
its file name says: before `-00000-of-00005`, in its first word, or in its last that is a split's. A name says a split
by these words alone, in any case and with digits behind them (`mnist_test.parquet`, `val2017/`); what they are called
here stands first:

    train: training    validation: valid, val, dev    test: testing, eval, evaluation, holdout

In a table a column says splits by its name (`split`; others of SPLIT_COLUMNS where all its values are such words).
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from pipeline.shards.files.locate import Shard

SPLIT: Final = "split"
"""The folder key and the column that state splits."""
_WORDS: Final = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test", "holdout": "test",
}  # fmt: skip
SPLIT_COLUMNS: Final = frozenset((
    "split", "splits", "split_name", "data_split", "dataset_split", "set", "subset", "partition", "phase", "usage",
    "dataset", "mode",
))  # fmt: skip
MOST_SPLITS: Final = 20
"""Values of a column of splits; one of more is called so for another reason."""
_NUMBERED: Final = re.compile(r"(?:^|[-_.])([a-z]+)-\d+-of-\d+\.")
_NAME: Final = re.compile(r"(?<![a-z0-9])([a-z]+)\d*(?![a-z0-9])")


def called(name: str) -> str:
    """Return what a split is called here: `train` for `Training`; a name of the data's own stays as it is."""
    return _WORDS.get(name.lower(), name)


def split_of(shard: Shard) -> str | None:
    """Return the split of a shard; None where nothing says one."""
    for key, value in reversed(shard.partitions):
        if key.lower() == SPLIT and value is not None:
            return called(value)
    *folders, file = shard.path.lower().split("/")
    found = [said for folder in folders if (said := _said(folder)) is not None]
    return found[-1] if found else _said(file)


def _said(name: str) -> str | None:
    """Return the split that a name in lower case says; None for none."""
    numbered, words = _NUMBERED.search(name), _NAME.findall(name)
    for word in ([numbered[1]] if numbered else []) + words[:1] + words[::-1]:
        if word in _WORDS:
            return _WORDS[word]
    return None


def says_splits(column: str, values: Iterable[Any]) -> bool:
    """Return whether the distinct values of a column of texts, named as in SPLIT_COLUMNS, are splits."""
    said = [value for value in values if value is not None]
    if len(said) > MOST_SPLITS:
        return False
    return column == SPLIT or (bool(said) and all(value.lower() in _WORDS for value in said))


def rows_by_split(shards: Iterable[Shard]) -> dict[str | None, int]:
    """Return the rows of each split; None: of shards that are in none."""
    rows: dict[str | None, int] = {}
    for shard in shards:
        split = split_of(shard)
        rows[split] = rows.get(split, 0) + shard.rows
    return rows
