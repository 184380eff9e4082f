"""The columns of a segment of the commit log, `_commits/<sha256>.parquet`: one row for each finished unit."""

import pyarrow as pa

FILE = pa.struct(
    [
        pa.field("path", pa.string()),  # relative to the data set
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
    ]
)
REASON = pa.struct([pa.field("reason", pa.string()), pa.field("count", pa.int64())])

SEGMENT = pa.schema(
    [
        pa.field("unit", pa.string()),
        pa.field("digest", pa.string()),
        pa.field("run", pa.int32()),  # number of the run that made it; of two records, that of the later run stands
        pa.field("branch", pa.string()),
        pa.field("shard", pa.string()),  # path of the source shard relative to its root; null without sources
        pa.field("label", pa.string()),  # JSON; the class of a unit without sources
        pa.field("first", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("selected", pa.int64()),
        pa.field("copies", pa.int32()),
        pa.field("accepted", pa.int64()),
        pa.field("rejected", pa.int64()),
        pa.field("quarantined", pa.int64()),
        pa.field("retried", pa.int64()),
        pa.field("reasons", pa.list_(REASON)),
        pa.field("quarantine_reasons", pa.list_(REASON)),
        pa.field("data_file", FILE),
        pa.field("rejected_file", FILE),
        pa.field("quarantine_file", FILE),
        pa.field("exact", pa.bool_()),
        pa.field("seconds", pa.float64()),
        pa.field("busy_s", pa.float64()),
        pa.field("device", pa.string()),
        # 16 bytes for each row of data/, then of rejected/, in the order of the files: their sample ids
        pa.field("sample_ids", pa.binary()),
        # likewise 8 bytes each: the first digits of the recorded digests of their payloads, zeros without a mark
        pa.field("payloads", pa.binary()),
    ]
)
"""A segment's schema. Of `data_file`, `rejected_file` and `quarantine_file`, those that a unit lacks are null."""
