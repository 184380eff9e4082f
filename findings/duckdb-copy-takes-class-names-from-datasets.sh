#!/usr/bin/env bash
# duckdb 2.0.0, datasets 5.2.0, pyarrow 26.0.1 (seen 2026-11-27).
#
# DuckDB's COPY writes a column as REQUIRED (not null) where no value of that file is null. datasets applies the
# `huggingface` metadata of a Parquet file only to columns whose Arrow field is equal to the feature's, nullability
# included. So a label column that keeps its metadata is read as a plain int64, without class names, from a shard that
# DuckDB wrote without nulls; a shard with one null keeps them. int32 labels lose their names in the same way.
# Who is hurt: whoever filters shards with DuckDB and trains by class name. Nothing warns.
#
# Output seen:
#   DuckDB's label: int64 not null; with one null: int64
#   names in datasets: nullable int64 ['cat', 'dog'], required int64 None, int32 None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet duckdb==2.0.0 datasets==5.2.0 pyarrow==26.0.1
export HF_HOME="$folder/home" HF_DATASETS_DISABLE_PROGRESS_BARS=1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import json

import datasets
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
METADATA = {"huggingface": json.dumps({"info": {"features": FEATURES}})}


def names(field, file):
    table = pa.table({"label": pa.array([0, 1], field.type)}, schema=pa.schema([field], metadata=METADATA))
    pq.write_table(table, file)
    found = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=f"cache-{file}")
    return getattr(found.features["label"], "names", None)


for values, file in (([0, 1], "whole.parquet"), ([0, None], "hole.parquet")):
    pq.write_table(pa.table({"label": pa.array(values, pa.int64())}), f"in-{file}")
    duckdb.sql(f"COPY (SELECT * FROM 'in-{file}') TO '{file}' (FORMAT parquet)")
whole, hole = (pq.read_schema(file).field("label") for file in ("whole.parquet", "hole.parquet"))
print(f"DuckDB's {str(whole).removeprefix('pyarrow.Field<').rstrip('>')}; with one null: {hole.type}")
assert (whole.nullable, hole.nullable) == (False, True)
found = [
    names(pa.field("label", pa.int64()), "nullable.parquet"),
    names(pa.field("label", pa.int64(), nullable=False), "required.parquet"),
    names(pa.field("label", pa.int32()), "narrow.parquet"),
]
print(f"names in datasets: nullable int64 {found[0]}, required int64 {found[1]}, int32 {found[2]}")
assert found == [["cat", "dog"], None, None]
PY
