#!/usr/bin/env bash
# Ray 2.60.0 (Data), pyarrow 26.0.1, pandas 3.1.1, numpy 2.4.6 (seen 2026-11-27).
#
# `map_batches(f)` hands f columns of numpy, and an int64 column with a null in its block comes as float64: identifiers
# above 2^53 are rounded to a neighbour and the null becomes NaN, also in columns that f does not look at. A block of
# the same column without a null stays exact, so the files of one data set may have two types.
# Who is hurt: hashes and identifiers of rows no longer join, and two rows may get one identifier. Nothing warns.
# Remedy: `batch_format="pyarrow"` (or "pandas"), or a null-free column.
#
# Output seen:
#   stored 9007199254740993, None: int64; numpy batches 9007199254740992.0, nan: double
#   pyarrow batches 9007199254740993, None: int64; pandas batches 9007199254740993, None: int64
#   the same without a null, numpy batches: int64
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

IDENTIFIER = 2**53 + 1
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def written(name, values, **how):
    table = pa.table({"identifier": pa.array(values, pa.int64()), "size": pa.array([1] * len(values), pa.int64())})
    pq.write_table(table, f"{name}.parquet")
    twice = ray.data.read_parquet(f"{name}.parquet").map_batches(double, **how)
    twice.write_parquet(name)
    (file,) = glob(f"{name}/*.parquet")
    assert pq.read_table(file)["size"].to_pylist() == [2] * len(values)
    column = pq.read_table(file)["identifier"]
    return str(column.type), column.to_pylist()


def double(batch):
    if isinstance(batch, pa.Table):
        return batch.set_column(1, "size", pa.compute.multiply(batch["size"], 2))
    batch["size"] = batch["size"] * 2
    return batch


def said(found):
    return f"{found[1][0]}, {found[1][1]}: {found[0]}"


plain = written("plain", [IDENTIFIER, None])
arrow = written("arrow", [IDENTIFIER, None], batch_format="pyarrow")
frames = written("frames", [IDENTIFIER, None], batch_format="pandas")
whole = written("whole", [IDENTIFIER, 5])
print(f"stored {IDENTIFIER}, None: int64; numpy batches {said(plain)}")
print(f"pyarrow batches {said(arrow)}; pandas batches {said(frames)}")
print(f"the same without a null, numpy batches: {whole[0]}")
assert plain[0] == "double" and plain[1][0] == float(IDENTIFIER - 1) and plain[1][1] != plain[1][1]
assert arrow == frames == ("int64", [IDENTIFIER, None])
assert whole == ("int64", [IDENTIFIER, 5])
PY
