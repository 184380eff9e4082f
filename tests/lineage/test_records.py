"""Columns of the input keep their names or get free ones, and keep Hugging Face features that fit."""

import json

import pyarrow as pa
import pytest

from pipeline.lineage.records import RowSchema, input_features, output_table, quarantine_table


def test_a_clashing_column_is_prefixed_until_its_name_is_free() -> None:
    names = ["image", "branch", "input_branch", "input_input_branch", "other"]
    table = pa.table({name: [name] for name in names})
    schema = RowSchema(table.schema, "image", None)
    assert dict(schema.kept) == {
        "branch": "input_input_input_branch",
        "input_branch": "input_branch",
        "input_input_branch": "input_input_branch",
        "other": "other",
    }
    row = output_table(schema, table, [0], {"branch": ["flipped"]}, rejected=True).to_pylist()[0]
    assert (row["branch"], row["input_branch"], row["input_input_input_branch"]) == (
        "flipped",
        "input_branch",
        "branch",
    )


def test_a_quarantined_row_keeps_all_its_columns() -> None:
    names = ["image", "label", "error_code", "input_error_code", "branch", "input_branch"]
    table = pa.table({name: [name] for name in names})
    schema = RowSchema(table.schema, "image", "label")
    made = quarantine_table(schema, table, [{"source": 0, "error_code": "empty", "branch": "flipped"}])
    assert len(set(made.schema.names)) == len(made.schema.names)
    row = made.to_pylist()[0]
    assert (row["error_code"], row["branch"], row["label"]) == ("empty", "flipped", "label")
    assert {value for name, value in row.items() if name.startswith("input_")} == set(names) - {"image", "label"}


@pytest.mark.parametrize(
    "text", [b"{not json", b"[1]", b"\xff", b"1", b"{}", b'{"info": null}', b'{"info": {"features": [1]}}']
)
def test_malformed_features_are_none(text: bytes) -> None:
    schema = pa.schema([pa.field("image", pa.binary()), pa.field("x", pa.int64())], metadata={b"huggingface": text})
    assert input_features(schema) == {}
    assert RowSchema(schema, "image", None).accepted.names[:3] == ["image", "label", "x"]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int32(), pa.int64()])
def test_integers_with_class_names_are_written_as_int64(kind: pa.DataType) -> None:
    named = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    said = {"huggingface": json.dumps({"info": {"features": {"label": named, "kind": named}}})}
    fields = [pa.field("image", pa.binary()), pa.field("label", kind, False), pa.field("kind", kind, False)]
    table = pa.table({"image": [b""], "label": [1], "kind": [0], "other": [2]}, schema=None).cast(
        pa.schema([*fields, pa.field("other", kind)], metadata=said)
    )
    made = output_table(RowSchema(table.schema, "image", "label"), table, [0], {"label": [1]}, rejected=False)
    assert [made.schema.field(name) for name in ("label", "kind", "other")] == [
        pa.field("label", pa.int64()),
        pa.field("kind", pa.int64()),
        pa.field("other", kind),
    ]
    assert [made.column(name).to_pylist() for name in ("label", "kind", "other")] == [[1], [0], [2]]
