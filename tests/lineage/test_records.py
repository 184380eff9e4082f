"""Columns of the input keep their names, or get free ones; what their metadata says is taken where it makes sense."""

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
    row = output_table(schema, table, [{"source": 0, "branch": "flipped"}], rejected=True).to_pylist()[0]
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
