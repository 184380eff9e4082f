"""Records of units as columns of a segment: checked, grouped, compared and hashed without an object for each unit."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.shards.output.counts import REASONS, SUMMED
from pipeline.shards.output.segments import FOLDERS, records_of
from schemas.manifest import UnitRecord
from schemas.recipe import MAX_ROWS_PER_UNIT

STATE_COLUMNS: Final = (
    "unit", "digest", "branch", "shard", "label", "first", "copies", *SUMMED, *REASONS,
    *(f"{folder}_file" for folder in FOLDERS), "device", "run",
)  # fmt: skip
"""Columns that say what is there of a plan."""
DIGEST_BYTES: Final = 32
_NULL_ALLOWED: Final = ("shard", "label", *(f"{folder}_file" for folder in FOLDERS))
_PATH: Final = r"^(data|rejected|quarantine)/[^/\x00]+$"
_NIBBLES: Final = np.full(256, 255, np.uint8)
_NIBBLES[[*b"0123456789abcdef"]] = np.arange(16)

Mask = npt.NDArray[np.bool_]


def check_values(table: pa.Table, where: str) -> None:
    """Check what `records_of` checks of `STATE_COLUMNS`, all rows at once.

    Args:
        where: the segment, for messages.

    Raises:
        InputError: a value is none that a run writes.
    """
    sound = pa.scalar(True)
    for name in STATE_COLUMNS:
        if name not in _NULL_ALLOWED:
            sound = pc.and_(sound, pc.is_valid(table[name]))
    limits = (("first", None), ("rows", MAX_ROWS_PER_UNIT))
    for name, limit in limits:
        sound = pc.and_(sound, pc.greater_equal(table[name], 0))
        sound = sound if limit is None else pc.and_(sound, pc.less_equal(table[name], limit))
    for folder in FOLDERS:
        file = table[f"{folder}_file"]
        whole = pc.match_substring_regex(pc.struct_field(file, "path"), _PATH)
        for name in ("rows", "bytes", "sha256"):
            whole = pc.and_(whole, pc.is_valid(pc.struct_field(file, name)))
        sound = pc.and_(sound, pc.or_(pc.is_null(file), pc.fill_null(whole, False)))
    unsound = np.flatnonzero(~_mask(sound))
    rare = any(_has_nulls(table[name]) for name in REASONS) or not all(map(_is_label, table["label"].unique()))
    for row in range(table.num_rows) if rare else unsound[:1].tolist():
        next(records_of(table.slice(row, 1), where))  # raises, and says which value it is
    if rare or len(unsound):
        raise InputError(f"{where}: a record of it cannot be read")


def _is_label(value: pa.StringScalar) -> bool:
    try:
        return value.as_py() is None or isinstance(json.loads(value.as_py()), int | str)
    except ValueError:
        return False


def _has_nulls(lists: pa.ChunkedArray) -> bool:
    every = pc.list_flatten(lists)
    return any(part.null_count > 0 for part in (every, *(pc.struct_field(every, each) for each in ("reason", "count"))))


def _mask(values: pa.ChunkedArray) -> Mask:
    found: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return found


def groups(table: pa.Table, *names: str) -> tuple[list[tuple[Any, ...]], npt.NDArray[np.int64]]:
    """Return the different values of some columns together, and the [N] index of those of each row."""
    codes, values = np.zeros(table.num_rows, np.int64), []
    for name in names:
        encoded = pc.dictionary_encode(table[name].combine_chunks(), null_encoding="encode")
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        values.append(encoded.dictionary.to_pylist())
        codes = codes * max(1, len(values[-1])) + encoded.indices.to_numpy(zero_copy_only=False)
    distinct, each = np.unique(codes, return_inverse=True)
    found = []
    for code in distinct.tolist():
        row: list[Any] = []
        for column in reversed(values):
            code, place = divmod(code, len(column))
            row.insert(0, column[place])
        found.append(tuple(row))
    return found, each.astype(np.int64)


def unit_names(prefixes: list[str], group: npt.NDArray[np.int64], first: pa.ChunkedArray) -> pa.Array:
    """Return the [N] names that units have by their groups' prefixes and first rows; see `UnitGroup.name`."""
    numbers = pc.utf8_lpad(pc.cast(first, pa.string()), width=9, padding="0")
    named = pa.array(prefixes, pa.string()).take(pa.array(group))
    return pc.binary_join_element_wise(pa.chunked_array([named]), numbers, "").combine_chunks()


def digest_bytes(digests: pa.ChunkedArray) -> tuple[npt.NDArray[np.uint8], Mask]:
    """Return [N, 32] the digests, and [N] whether each is 64 lower-case hex digits; zeros where it is not."""
    right = _mask(pc.equal(pc.binary_length(digests), 2 * DIGEST_BYTES))
    found = np.zeros((len(digests), DIGEST_BYTES), np.uint8)
    text = b"".join(digests.filter(pa.array(right)).cast(pa.binary()).to_pylist())
    nibbles = _NIBBLES[np.frombuffer(text, np.uint8).reshape(-1, 2 * DIGEST_BYTES)]
    hexadecimal = (nibbles < 16).all(axis=1)
    right[right] = hexadecimal
    found[right] = (nibbles[:, ::2] << 4 | nibbles[:, 1::2])[hexadecimal]
    return found, right


def record_hashes(table: pa.Table) -> npt.NDArray[np.uint8]:
    """Return [N, 32] the sha256 over each unit's name, digest and files, as `record_hash` has it."""
    files = []
    for folder in sorted(FOLDERS):
        file = table[f"{folder}_file"]
        files.append(pc.binary_join_element_wise(pc.struct_field(file, "path"), pc.struct_field(file, "sha256"), "="))
    nothing = pc.if_else(pc.is_null(pc.coalesce(*files)), "", pa.scalar(None, pa.string()))
    parts = (table["unit"], table["digest"], *files, nothing)
    texts = pc.binary_join_element_wise(*parts, " ", null_handling="skip").cast(pa.binary())
    made = b"".join(hashlib.sha256(text).digest() for text in texts.to_pylist())
    return np.frombuffer(made, np.uint8).reshape(-1, DIGEST_BYTES)


def record_hash(record: UnitRecord) -> bytes:
    """Return the sha256 over a unit's name, digest and files."""
    files = " ".join(f"{file.path}={file.sha256}" for _, file in sorted(record.files.items()))
    return hashlib.sha256(f"{record.unit} {record.digest} {files}".encode()).digest()


def files_in(table: pa.Table) -> Iterator[tuple[str, npt.NDArray[np.int64], pa.StructArray]]:
    """Yield each folder with the [M] indexes of the rows that have a file there, and these files."""
    for folder in FOLDERS:
        column = table[f"{folder}_file"]
        rows = np.flatnonzero(_mask(pc.is_valid(column)))
        yield folder, rows, column.filter(pc.is_valid(column)).combine_chunks()
