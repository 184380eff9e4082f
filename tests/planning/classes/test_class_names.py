"""What classes are called: by `input.class_names`, the shards' metadata, or labels that are text."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import JobError
from pipeline.plan import Plan
from pipeline.shards.columns.class_metadata import enum_names
from tests.fixtures.data_sets import FLIP, plan_of, write_recipe
from tests.fixtures.shard_files import photos, write_shard


def planned(folder: Path, labels: Any, names: tuple[str, ...] | None = None, **told: Any) -> Plan:
    write_shard(folder / "data/a.parquet", photos(len(labels), 8, 8), labels=labels, class_names=names)
    return plan_of(write_recipe(folder, [FLIP], input=told))


def test_texts_over_all_shards_sorted(tmp_path: Path) -> None:
    write_shard(tmp_path / "data/b.parquet", photos(2, 8, 8), labels=["ant", "owl"])
    plan = planned(tmp_path, ["dog", None, "cat", " "])
    assert plan.classes == ("ant", "cat", "dog", "owl")
    assert plan.layout is not None and plan.layout.class_source == "the labels themselves, sorted"
    assert plan.labels.rows[None] == 1
    assert [plan.layout.table.index(label) for label in ("dog", "ant", " ")] == [2, 0, -1]


@pytest.mark.parametrize("text", ["cat\r\ndog\n\n", '["cat", "dog"]', '{"1": "dog", "0": "cat"}', "\ufeffcat\ndog",
                                  '{"id2label": {"0": "cat", "1": "dog"}}'])  # fmt: skip
def test_a_file_of_names_beside_the_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    plan = planned(tmp_path, [0, 1, None], class_names="names.txt")
    assert plan.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("names.yaml", "- cat\n- dog\n"),
        ("data.yml", "nc: 2\nnames:\n  0: cat\n  1: dog\n"),
        ("data.yaml", "names: [cat, dog]"),
        ("class_indices.json", '{"dog": 1, "cat": 0}'),
        ("config.json", '{"label2id": {"cat": 0, "dog": 1}}'),
        ("names.txt", "0 cat\n1 dog\n"),
        ("names.csv", "1,dog\n0,cat\n"),
        ("names.txt", "1: dog\n0: cat"),
    ],
)
def test_other_files_of_names(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    assert planned(tmp_path, [0, 1], class_names=file).classes == ("cat", "dog")


def test_more_names_than_a_recipe_has_keys(tmp_path: Path) -> None:
    (tmp_path / "lvis.yaml").write_text("names:\n" + "".join(f"  {n}: class {n}\n" for n in range(1_203)))
    assert planned(tmp_path, [0, 1_202], class_names="lvis.yaml").classes[1_202] == "class 1202"


def test_names_that_begin_with_other_numbers_are_names(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("3 dogs\n1 cat\n")
    assert planned(tmp_path, [0, 1], class_names="names.txt").classes == ("3 dogs", "1 cat")


def test_a_table_is_no_file_of_names(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("id,name\n0,cat\n1,dog\n")
    with pytest.raises(JobError, match=r"names\.csv': a table; give a name a line"):
        planned(tmp_path, [0, 1], class_names="names.csv")


def test_numbers_as_texts_are_named_with_their_remedy(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"numbers as texts, so write the column as whole numbers"):
        planned(tmp_path, ["0", "1"], class_names=["cat", "dog"])


@pytest.mark.parametrize("said", [["cat", "dog"], {0: "cat", 1: "dog"}])
def test_names_in_the_recipe_come_before_those_in_the_shards(tmp_path: Path, said: Any) -> None:
    plan = planned(tmp_path, [0, 1], ("x", "y"), class_names=said)
    assert plan.classes == ("cat", "dog")
    assert plan.digest != planned(tmp_path, [0, 1], ("x", "y")).digest


def test_names_of_texts_are_their_order_and_change_no_unit(tmp_path: Path) -> None:
    plan, other = (planned(tmp_path, ["a", "b"], class_names=names) for names in (["b", "a", "c"], ["a", "b"]))
    assert plan.classes == ("b", "a", "c") and plan.digest == other.digest


@pytest.mark.parametrize(
    ("labels", "told", "message"),
    [
        ([0, 5, 5], ["a", "b"], r"'label': 5 \(2 rows\) is beyond the 2 class names of input.class_names \(a, b\)"),
        ([True, False], ["a"], r"True \(1 row\) is beyond the 1 class names"),
        (["a", "z", "y"], ["a", "b"], r"'y', 'z' \(2 rows\) are not among the 2 class names of input.class_names"),
        ([0.5, 1.0, 1.25], None, r"column 'label' is double: 0.5, 1.25 \(2 rows\) are no whole number"),
        ([float("inf")], None, r"inf \(1 row\) is no whole number"),
        (pa.array([2**64 - 1], pa.uint64()), None, r"18446744073709551615 \(1 row\) is no class index"),
        ([0], ["a", "a"], "recipe.input.class_names: a is there twice"),
        ([0], [], "needs a list of names"),
        ([0], {"1": "a"}, "index 0 has no name"),
        ([0], ".", "'.': no file"),
        ([0], "many.txt", "100,001 names; 100,000 at most"),
        ([0], [False, True], "recipe.input.class_names = .*False.*needs a list of names.*stand in quotes"),
        ([0], [7, 8], "recipe.input.class_names = .*7.*needs a list of names.*such as 7 or no stand in quotes"),
        ([0], {"a": 0}, r"recipe.input.class_names = .*every index with its name, as in \{0: cat\}"),
        ([0], "nul.txt", "'nul.txt': not text"),
        ([0], "cut.json", r"'cut.json': not JSON: Expecting value: line 4"),
        ([0], "deep.txt", r"'deep.txt': not JSON"),
        ([0], "twice.json", r"'twice.json': not JSON: 0 is there twice"),
        ([0], "shared.json", r"'shared.json': cat, dog have one index, 0"),
        ([0], "nowhere.txt", "'nowhere.txt': cannot be read: No such file"),
        ([[0]], None, r"column 'label' is list.*carry it as it is with input.columns: \{label: none\}"),
    ],
)  # fmt: skip
def test_labels_and_names_that_do_not_fit_are_errors_of_the_plan(
    tmp_path: Path, labels: Any, told: Any, message: str
) -> None:
    (tmp_path / "nul.txt").write_bytes(b"KEY=secret\0HOME=/root")  # as /proc/self/environ is
    (tmp_path / "many.txt").write_text("\n".join(map(str, range(100_001))))
    (tmp_path / "cut.json").write_text('[\n"cat",\n"dog",\n]')
    (tmp_path / "deep.txt").write_text("[" * 100_000)
    (tmp_path / "twice.json").write_text('{"0": "cat", "0": "dog"}')
    (tmp_path / "shared.json").write_text('{"cat": 0, "dog": 0, "owl": 1}')
    with pytest.raises(JobError, match=message) as caught:
        planned(tmp_path, labels, **({} if told is None else {"class_names": told}))
    assert "\n" not in str(caught.value) and "drop" not in str(caught.value)


def test_whole_floats_negative_numbers_and_nulls_are_fine(tmp_path: Path) -> None:
    plan = planned(tmp_path, [0.0, 1.0, None, -1.0, float("nan")], class_names=["a", "b"])
    assert plan.layout is not None
    assert [plan.layout.table.index(label) for label in (0.0, 1.0, None, -1.0)] == [0, 1, -1, -1]


def test_several_shards_one_with_an_id2label(tmp_path: Path) -> None:
    images = pa.array([{"bytes": image, "path": None} for image in photos(1, 8, 8)])
    table = pa.table({"image": images, "label": [1], "id": ["x"]})
    named = table.replace_schema_metadata({"id2label": json.dumps({"0": "cat", "1": "dog"})})
    (tmp_path / "data").mkdir()
    pq.write_table(named, tmp_path / "data/b.parquet")
    pq.write_table(table, tmp_path / "data/a.parquet")
    plan = plan_of(write_recipe(tmp_path))
    assert plan.classes == ("cat", "dog") and plan.layout is not None and plan.layout.class_source == "id2label"


@pytest.mark.parametrize("said", ['{"cat": 0, "dog": 0}', '{"cat": [], "dog": 1}'])
def test_a_label2id_that_gives_no_index_to_each_is_named(tmp_path: Path, said: str) -> None:
    images = pa.array([{"bytes": image, "path": None} for image in photos(1, 8, 8)])
    (tmp_path / "data").mkdir()
    table = pa.table({"image": images, "label": [0]}).replace_schema_metadata({"label2id": said})
    pq.write_table(table, tmp_path / "data/a.parquet")
    with pytest.raises(JobError, match=r"label2id in the metadata: .*; say the names with input.class_names"):
        plan_of(write_recipe(tmp_path))


@pytest.mark.parametrize(
    ("categories", "names"),
    [
        (b"3;cat5;a;b;c", ("cat", "a;b;c")),
        (b"9" * 5_000 + b";cat", ()),
        (b"3;cat junk", ()),
        (b"1;x" * 99_999, ("x",) * 99_999),
    ],
    ids=["two", "a huge length", "junk", "many"],
)
def test_the_categories_of_an_enum(categories: bytes, names: tuple[str, ...]) -> None:
    field = pa.field("label", pa.dictionary(pa.uint32(), pa.string()), metadata={"_PL_ENUM_VALUES2": categories})
    assert enum_names(field) == names
