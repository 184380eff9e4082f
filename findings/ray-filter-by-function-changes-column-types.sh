#!/usr/bin/env bash
# Ray 2.60.0 (Data), pyarrow 26.0.1, pandas 3.1.1 (seen 2026-11-27).
#
# `filter(lambda row: ...)` sends each row through Python objects, and the types of what is kept are guessed anew from
# them: float32 and int32 become double and int64, lists of uint8 lists of int64, a column of texts that are all null is
# of type null, and instants lose their time zone. `filter(expr=col("size") > 0)` keeps every type.
# Who is hurt: the shards that come out are no longer of one schema with those that were not filtered, embeddings and
# masks grow, and instants no longer say that they are UTC. Nothing warns of it. Remedy: `expr`.
#
# Output seen:
#   stored    float score, int32 size, list<uint8> mask, string note, timestamp[us, tz=Europe/Berlin] taken
#   function  double score, int64 size, list<int64> mask, null note, timestamp[us] taken
#   expr      float score, int32 size, list<uint8> mask, string note, timestamp[us, tz=Europe/Berlin] taken
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet "ray[data]==2.60.0" pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6
export RAY_USAGE_STATS_ENABLED=0 RAY_DATA_DISABLE_PROGRESS_BARS=1
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PY' || { cat "$folder/log" >&2; exit 1; }
from glob import glob

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data.expressions import col

SCHEMA = pa.schema(
    {
        "score": pa.float32(),
        "size": pa.int32(),
        "mask": pa.list_(pa.uint8()),
        "note": pa.string(),
        "taken": pa.timestamp("us", "Europe/Berlin"),
    }
)
ROWS = [{"score": 0.5, "size": size, "mask": [0, 255], "note": None, "taken": 1_767_225_600_123_456} for size in (1, 2)]
pq.write_table(pa.Table.from_pylist(ROWS, schema=SCHEMA), "stored.parquet")
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def types(name, rows=None):
    if rows is not None:
        rows.write_parquet(name)
    (file,) = glob(f"{name}/*.parquet") or [f"{name}.parquet"]
    table = pq.read_table(file)
    assert table.num_rows == len(ROWS)
    kinds = [
        f"list<{field.type.value_type}>" if pa.types.is_list(field.type) else str(field.type) for field in table.schema
    ]
    print(f"{name:8}  " + ", ".join(f"{kind} {column}" for kind, column in zip(kinds, SCHEMA.names, strict=True)))
    return kinds


stored = types("stored")
function = types("function", ray.data.read_parquet("stored.parquet").filter(lambda row: row["size"] > 0))
expr = types("expr", ray.data.read_parquet("stored.parquet").filter(expr=col("size") > 0))
assert stored == expr == ["float", "int32", "list<uint8>", "string", "timestamp[us, tz=Europe/Berlin]"]
assert function == ["double", "int64", "list<int64>", "null", "timestamp[us]"]
PY
