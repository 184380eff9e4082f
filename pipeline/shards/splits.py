"""Splits: which part of a data set a shard belongs to, by its folders and its name.

A shard's split is what a folder `split=...` says; else the innermost of its folders that is called as a split is; else
what its file name begins with, before a `-`, `_` or `.`, or says before `-00000-of-00005`. A name says a split by these
words alone, in any case; what they are called here stands first:

    train: training    validation: valid, val, dev    test: testing, eval, evaluation
"""

import re
from collections.abc import Iterable
from typing import Final

from pipeline.shards.locate import Shard

SPLIT: Final = "split"
"""The folder key and the column that state splits."""
_WORDS: Final = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_FIRST: Final = re.compile(r"([a-z]+)(?=[-_.]|$)")
_NUMBERED: Final = re.compile(r"(?:^|[-_.])([a-z]+)-\d+-of-\d+\.")


def called(name: str) -> str:
    """Return what a split is called here: `train` for `Training`; a name of the data's own stays as it is."""
    return _WORDS.get(name.lower(), name)


def split_of(shard: Shard) -> str | None:
    """Return the split of a shard; None where nothing says one."""
    for key, value in reversed(shard.partitions):
        if key.lower() == SPLIT and value is not None:
            return called(value)
    *folders, file = shard.path.lower().split("/")
    for folder in reversed(folders):
        if folder in _WORDS:
            return _WORDS[folder]
    for found in (_NUMBERED.search(file), _FIRST.match(file)):
        if found is not None and found[1] in _WORDS:
            return _WORDS[found[1]]
    return None


def rows_by_split(shards: Iterable[Shard]) -> dict[str | None, int]:
    """Return the rows of each split; None: of shards that are in none."""
    rows: dict[str | None, int] = {}
    for shard in shards:
        split = split_of(shard)
        rows[split] = rows.get(split, 0) + shard.rows
    return rows
