#!/usr/bin/env bash
# polars 2.1.0, pyarrow 26.0.1 (seen 2026-11-27).
#
# `pyarrow.table(frame)` of a polars frame gives texts the type `string_view` and bytes `binary_view`. pyarrow writes
# such columns to Parquet, reads them back as what they were, casts and groups them, and cannot take, filter or sort
# rows of a table that has one, not even by another column. And `value_counts` counts a null of a view as an empty text.
# With the `large_string` of `frame.to_arrow()` all is well.
# Who is hurt: pipelines that get tables in this way, or read such a Parquet file: a shard that opens and counts its
# rows fails in the first selection, and rows without a label become a class. Remedy: `frame.to_arrow()`, or a cast of
# the views before anything else.
#
# Output seen:
#   table(frame): string_view, binary_view; from Parquet: the same; to_arrow(): large_string, large_binary
#   with views: take ArrowNotImplementedError, filter ArrowNotImplementedError, sort ArrowNotImplementedError
#   cast first: take 1, filter 2, sort 3 rows
#   a null in value_counts of a view: ''; cast first: None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet polars==2.1.0 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

frame = pl.DataFrame({"number": [3, 1, 2], "label": ["cat", None, "cat"], "image": [b"one", b"two", b"three"]})
ACTIONS = {
    "take": lambda table: table.take([0]),
    "filter": lambda table: table.filter(pc.field("number") > 1),
    "sort": lambda table: table.sort_by("number"),
}


def types(table):
    return [str(kind) for kind in table.schema.types[1:]]


def tried(action, table):
    try:
        return action(table).num_rows
    except pa.ArrowNotImplementedError as error:
        return type(error).__name__


views = pa.table(frame)
pq.write_table(views, "views.parquet")
read = pq.read_table("views.parquet")
cast = read.cast(pa.schema([("number", pa.int64()), ("label", pa.string()), ("image", pa.binary())]))
kinds = [types(table) for table in (views, frame.to_arrow())]
print("table(frame): {}, {}; from Parquet: the same; to_arrow(): {}, {}".format(*kinds[0], *kinds[1]))
with_views, with_cast = ({name: tried(act, table) for name, act in ACTIONS.items()} for table in (read, cast))
print("with views:", ", ".join(f"{name} {found}" for name, found in with_views.items()))
counts = [pc.value_counts(table["label"]).to_pylist()[1]["values"] for table in (read, cast)]
print("cast first:", ", ".join(f"{name} {found}" for name, found in with_cast.items()), "rows")
print(f"a null in value_counts of a view: {counts[0]!r}; cast first: {counts[1]}")
assert kinds == [["string_view", "binary_view"], ["large_string", "large_binary"]]
assert set(with_views.values()) == {"ArrowNotImplementedError"}
assert list(with_cast.values()) == [1, 2, 3] == [tried(act, frame.to_arrow()) for act in ACTIONS.values()]
assert read.schema == views.schema and read.equals(views)
assert counts == ["", None]
PY
