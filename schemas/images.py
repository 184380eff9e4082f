"""The columns of `data/` and `rejected/`, and of `quarantine/`."""

import pyarrow as pa

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""The Arrow type of a Hugging Face `Image`."""

PARTNER = pa.struct(
    [
        pa.field("role", pa.string()),
        pa.field("source_uri", pa.string()),
        pa.field("source_row", pa.int64()),
        pa.field("source_id", pa.string()),
        pa.field("sha256", pa.string()),
    ]
)
STEP = pa.struct(
    [
        pa.field("operator", pa.string()),
        pa.field("version", pa.int32()),
        pa.field("params", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("model_id", pa.string()),
        pa.field("model_sha256", pa.string()),
        pa.field("package", pa.string()),  # of an operator of another distribution: `acme-blur 0.1.0 sha256:...`
    ]
)
WATERMARK = pa.struct(
    [
        pa.field("scheme", pa.string()),
        pa.field("key_id", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("psnr_db", pa.float32()),
        pa.field("verified", pa.bool_()),
    ]
)
SCORE = pa.struct([pa.field("gate", pa.string()), pa.field("score", pa.float32())])

LINEAGE = (
    pa.field("soft_label", pa.list_(pa.float32())),
    pa.field("sample_id", pa.string()),
    pa.field("source_id", pa.string()),
    pa.field("source_uri", pa.string()),
    pa.field("source_row", pa.int64()),
    pa.field("source_sha256", pa.string()),
    pa.field("partners", pa.list_(PARTNER)),
    pa.field("branch", pa.string()),
    pa.field("copy_index", pa.int32()),
    pa.field("attempt", pa.int32()),
    pa.field("steps", pa.list_(STEP)),
    pa.field("digital_source_type", pa.string()),
    pa.field("unit_digest", pa.string()),
    pa.field("image_sha256", pa.string()),
    pa.field("watermarks", pa.list_(WATERMARK)),
    pa.field("quality", pa.list_(SCORE)),
)
"""The lineage columns of an output row, in order, after `image` and `label`."""

RESERVED = ("image", "label", *(field.name for field in LINEAGE), "rejected_reason")
"""Names of output columns; an input column of such a name becomes `input_<name>`."""

QUARANTINE = (
    pa.field("image", IMAGE),
    pa.field("source_id", pa.string()),
    pa.field("source_uri", pa.string()),
    pa.field("source_row", pa.int64()),
    pa.field("branch", pa.string()),
    pa.field("error_code", pa.string()),
    pa.field("error_message", pa.string()),
)
"""The columns of `quarantine/`: the original bytes, and why the row could not be used."""
