"""One table from stored labels to class indexes and back, whatever type they are of; and where names come from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.shards.columns.class_metadata import names_of, read_class_names
from pipeline.shards.columns.class_table import ClassTable, label_kind
from pipeline.shards.columns.label_values import MAX_TEXTS, LabelValues, read_label_values
from pipeline.shards.files.discovery import find_shards, read_schemas

TEXTS = ["dog", None, "cat", "dog"]
DICTIONARY = pa.dictionary(pa.int8(), pa.string())


def test_texts_go_by_name_and_come_back_as_they_were() -> None:
    table = ClassTable(("cat", "dog"), "text")
    assert [table.index(label) for label in ("dog", "cat", "owl", None, "", " ", 1)] == [1, 0, -1, -1, -1, -1, -1]
    assert [table.value(index) for index in (1, 0, -1, 2)] == ["dog", "cat", None, None]
    assert [table.name(index) for index in (1, -1, 2)] == ["dog", None, None]


@pytest.mark.parametrize("names", [(), ("a", "b", "c")])
def test_whole_numbers_are_their_own_index(names: tuple[str, ...]) -> None:
    table = ClassTable(names, "whole")
    assert [table.index(label) for label in (0, 2, None, -1, 2**63, "1", [1])] == [0, 2, -1, -1, -1, -1, -1]
    assert [table.value(index) for index in (2, -1)] == [2, None]


def test_floats_are_indexes_where_they_are_whole_and_keep_their_type() -> None:
    table = ClassTable(("a", "b"), "float")
    assert [table.index(label) for label in (1.0, 0.5, float("nan"), float("inf"), -1.0, None)] == [
        1,
        -1,
        -1,
        -1,
        -1,
        -1,
    ]
    assert table.value(1) == 1.0 and isinstance(table.value(1), float)


def test_booleans_are_two_classes() -> None:
    table = ClassTable(("no", "yes"), "truth")
    assert [table.index(label) for label in (True, False, None)] == [1, 0, -1]
    assert [table.value(index) for index in (1, 0, 2, -1)] == [True, False, None, None]
    assert ClassTable((), "none").index(3) == -1


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (pa.string(), "text"),
        (pa.large_string(), "text"),
        (pa.string_view(), "text"),
        (DICTIONARY, "text"),
        (pa.dictionary(pa.int16(), pa.int64()), "whole"),
        (pa.uint64(), "whole"),
        (pa.float64(), "float"),
        (pa.bool_(), "truth"),
        (pa.null(), "none"),
        (pa.list_(pa.int64()), None),
        (pa.struct([("x", pa.int64())]), None),
        (pa.decimal128(4), None),
        (pa.binary(), None),
    ],
)
def test_how_types_are_read(kind: pa.DataType, wanted: str | None) -> None:
    assert label_kind(kind) == wanted


@pytest.fixture
def values_of(tmp_path: Path) -> Callable[..., LabelValues]:
    """Return what the label column of some shards holds, one array a shard."""

    def read(*arrays: pa.Array, **how: Any) -> LabelValues:
        for place, array in enumerate(arrays):
            pq.write_table(pa.table({"x": pa.nulls(len(array)), "label": array}), tmp_path / f"{place}.parquet", **how)
        return read_label_values(find_shards(str(tmp_path), "/"), "label")

    return read


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), DICTIONARY])
def test_the_texts_of_all_shards_are_counted(values_of: Callable[..., LabelValues], kind: pa.DataType) -> None:
    found = values_of(pa.array(TEXTS, kind), pa.array(["owl", "cat"], kind), row_group_size=1)
    assert found.rows == {"dog": 2, None: 1, "cat": 2, "owl": 1}
    assert found.values == ["cat", "dog", "owl"] and found.declared is None


def test_numbers_and_not_a_number(values_of: Callable[..., LabelValues]) -> None:
    found = values_of(pa.array([1.0, float("nan"), None, 1.0]))
    assert found.rows == {1.0: 2, None: 2}


def test_ordered_categories_keep_their_order_and_those_without_a_row(tmp_path: Path) -> None:
    def frame(*labels: str, ordered: bool) -> pd.DataFrame:
        kind = pd.CategoricalDtype(["small", "medium", "large"], ordered=ordered)
        return pd.DataFrame({"label": pd.Categorical(labels, dtype=kind)})

    for place, labels in enumerate((["small"], ["medium", "small"])):
        frame(*labels, ordered=True).to_parquet(tmp_path / f"{place}.parquet")
    found = read_label_values(find_shards(str(tmp_path), "/"), "label")
    assert found.declared == ("small", "medium", "large") and found.values == ["medium", "small"]
    frame("large", ordered=False).to_parquet(tmp_path / "2.parquet")
    assert read_label_values(find_shards(str(tmp_path), "/"), "label").declared is None


def test_texts_that_are_no_classes_are_refused(values_of: Callable[..., LabelValues]) -> None:
    with pytest.raises(InputError, match=r"'label' has more than 25,000 distinct values .* \{label: none\}"):
        values_of(pa.array([f"caption {n}" for n in range(MAX_TEXTS + 1)]))


def test_a_broken_shard_is_the_runs_concern(values_of: Callable[..., LabelValues], tmp_path: Path) -> None:
    values_of(pa.array(["a"] * 9), pa.array(["b"] * 9), compression="none")
    shards = find_shards(str(tmp_path), "/")
    spoilt = bytearray((tmp_path / "0.parquet").read_bytes())
    start = pq.read_metadata(tmp_path / "0.parquet").row_group(0).column(1).dictionary_page_offset
    spoilt[start : start + 20] = b"\xff" * 20
    (tmp_path / "0.parquet").write_bytes(spoilt)
    assert read_label_values(shards, "label").rows == {"b": 9}


ID2LABEL = {"0": "cat", "1": "dog"}


@pytest.mark.parametrize(
    ("metadata", "own", "origin"),
    [
        ({"id2label": json.dumps(ID2LABEL)}, None, "id2label"),
        ({"label2id": json.dumps({"dog": 1, "cat": 0})}, None, "label2id"),
        ({"huggingface": json.dumps({"id2label": ID2LABEL})}, None, "id2label"),
        ({"huggingface": json.dumps({"info": {"id2label": ID2LABEL}})}, None, "id2label"),
        ({"pandas": json.dumps({"attributes": {"id2label": ID2LABEL}})}, None, "id2label"),
        ({"PANDAS_ATTRS": json.dumps({"id2label": ID2LABEL})}, None, "id2label"),
        ({"id2label": json.dumps({"0": "x"})}, {"id2label": json.dumps(ID2LABEL)}, "id2label"),
        ({"id2label": "[1, 2"}, None, None),
        ({"other": json.dumps(ID2LABEL)}, None, None),
    ],
)
def test_names_in_the_metadata(tmp_path: Path, metadata: Any, own: Any, origin: str | None) -> None:
    schema = pa.schema([pa.field("label", pa.int64(), metadata=own)], metadata=metadata)
    pq.write_table(pa.table([pa.array([0, 1])], schema=schema), tmp_path / "a.parquet")
    shards = find_shards(str(tmp_path), "/")
    found = read_class_names([(shards[0], read_schemas(shards)[0])], "label")
    assert (found and (found.names, found.origin)) == (origin and (("cat", "dog"), origin))


def test_what_pandas_keeps_of_attrs_is_read_as_it_writes_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": [0, 1]})
    frame.attrs = {"id2label": ID2LABEL}
    frame.to_parquet(tmp_path / "a.parquet")
    shards = find_shards(str(tmp_path), "/")
    found = read_class_names([(shards[0], read_schemas(shards)[0])], "label")
    assert found is not None and found.names == ("cat", "dog")


def test_the_categories_of_a_polars_enum(tmp_path: Path) -> None:
    """As Polars 2.1.0 writes `pl.Enum(["s", "groß;", "l"])`: an ordered dictionary with its values in the metadata."""
    kind = pa.dictionary(pa.uint8(), pa.string(), ordered=True)

    def read(*values: str) -> tuple[str, ...]:
        for place, text in enumerate(values):
            schema = pa.schema([pa.field("label", kind, metadata={"_PL_ENUM_VALUES2": text})])
            table = pa.table([pa.array(["s", "groß;"], kind)], schema=schema)
            pq.write_table(table, tmp_path / f"{place}.parquet")
        return read_label_values(find_shards(str(tmp_path), "/"), "label").texts

    assert read("1;s6;groß;1;l") == ("s", "groß;", "l")
    assert read("1;s6;groß;0;1;l") == ("s", "groß;", "l")  # a blank text is no class
    assert read("1;s6;groß;1;l", "6;groß;1;s") == ("groß;", "s")  # each shard's own order is none of all


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"0": "a", "2": "b"}, "index 1 has no name"),
        ({1: "a", 2: "b"}, "index 0 has no name"),
        ({"0": "a", "00": "b"}, "index 1 has no name"),
        ({"x": "a"}, "index 0 has no name"),
        (["a", ""], "the name of index 1 is blank"),
        (["a", None], "the name of index 1 is blank"),
        (["a", "b", "a"], "a is there twice"),
        ([], "needs a list of names"),
        ([["a"]], "needs a list of names"),
        (7, "needs a list of names"),
    ],
)
def test_names_that_cannot_be(said: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"here: {message}.*; mend it"):
        names_of(said, "here", "mend it")
    assert names_of({"1": "b", 0: "a"}, "", "") == names_of(["a", "b"], "", "") == ("a", "b")


def test_shards_that_name_an_index_differently_are_refused(tmp_path: Path) -> None:
    for place, names in enumerate((ID2LABEL, {"0": "dog", "1": "cat"})):
        schema = pa.schema([("label", pa.int64())], metadata={"id2label": json.dumps(names)})
        pq.write_table(pa.table([pa.array([0])], schema=schema), tmp_path / f"{place}.parquet")
    shards = find_shards(str(tmp_path), "/")
    with pytest.raises(InputError, match=r"classes are cat, dog in .* and dog, cat in .*one order of classes"):
        read_class_names(list(zip(shards, read_schemas(shards), strict=True)), "label")
