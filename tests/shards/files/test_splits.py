"""Splits: what a folder and a file name say, by few words; never guessed from anything else."""

import pytest

from pipeline.shards.files.discovery import Shard
from pipeline.shards.files.splits import called, rows_by_split, split_names, splits_of


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
        ("fer_PublicTest.parquet", "test"),
        ("trainA/0.parquet", "train"),
        ("voc/trainval.parquet", "trainval"),
        ("extra-00000-of-00002.parquet", None),
    ],
)
def test_what_says_a_split(path, split):
    assert splits_of([shard(path)]) == [split]


def test_numbered_shards_beside_a_numbered_split():
    paths = ("train-00000-of-00002.parquet", "b/extra-00000-of-00001.parquet", "more.parquet")
    assert splits_of([shard(path) for path in paths]) == ["train", "extra", None]


def test_rows_of_each_split():
    shards = [shard("train-0.parquet", 5), shard("x.parquet", 2), shard("training/1.parquet", 3)]
    assert rows_by_split(shards, splits_of(shards)) == {"train": 8, None: 2}


@pytest.mark.parametrize(
    ("column", "values", "names"),
    [
        ("split", ["train", "mine", None], ["train", "mine"]),
        ("split", [0, 1], ["0", "1"]),
        ("split", [0.5, 1.5], None),
        ("Usage", ["Training", "PublicTest", "PrivateTest"], ["train", "PublicTest", "PrivateTest"]),
        ("set", ["train", "wagon"], None),
        ("train_test", ["TRAIN", "val"], ["train", "validation"]),
        ("caption", ["train", "test"], None),
        ("is_training_image", [1, 0], ["train", "not train"]),
        ("test", [True, False], ["test", "not test"]),
        ("is_valid", [True, False], None),
        ("train", [1, 2], None),
        ("split", [str(value) for value in range(21)], None),
    ],
)
def test_what_values_of_a_column_call_splits(column, values, names):
    stored = [value for value in values if value is not None]
    assert split_names(column, values) == (dict(zip(stored, names, strict=True)) if names else {})


def test_splits_with_class_names():
    assert split_names("subset", [0, 1], ["train", "dev"]) == {0: "train", 1: "validation"}
    assert split_names("subset", [0, 1], ["cat", "dev"]) == {}
    assert called("VAL") == "validation"
    assert called("mine") == "mine"
