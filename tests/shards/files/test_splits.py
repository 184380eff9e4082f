"""Splits: what a folder and a file name say, by few words; never guessed from anything else."""

import pytest

from pipeline.shards.files.locate import Shard
from pipeline.shards.files.splits import called, rows_by_split, split_of


def shard(path, rows=1):
    return Shard(f"/d/{path}", path, rows, 1, "", (rows,))


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00005.parquet", "train"),
        ("test.parquet", "test"),
        ("val_0.parquet", "validation"),
        ("Validation-00000-of-00001.parquet", "validation"),
        ("cifar-train-00000-of-00001.parquet", "train"),
        ("dev.1.pq", "validation"),
        ("data/train/0.parquet", "train"),
        ("train/eval/0.parquet", "test"),
        ("test/train-0.parquet", "test"),
        ("split=dev/0.parquet", "validation"),
        ("split=fold1/train-0.parquet", "fold1"),
        ("trains.parquet", None),
        ("training_set/0.parquet", "train"),
        ("my-train.parquet", "train"),
        ("mnist_test.parquet", "test"),
        ("my_val_1.parquet", "validation"),
        ("val2017/0.parquet", "validation"),
        ("a/holdout/train_1.parquet", "test"),
        ("train-eval.parquet", "train"),
        ("testament-0.parquet", None),
        ("latest-0.parquet", None),
        ("0.parquet", None),
        ("evaluations/devices.parquet", None),
    ],
)
def test_what_says_a_split(path, split):
    assert split_of(shard(path)) == split


def test_rows_of_each_split():
    found = rows_by_split([shard("train-0.parquet", 5), shard("x.parquet", 2), shard("training/1.parquet", 3)])
    assert found == {"train": 8, None: 2}
    assert called("VAL") == "validation"
    assert called("mine") == "mine"
