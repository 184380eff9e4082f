"""Sets of reference images: image files, or the rows of Parquet files. Imports no torch."""

import hashlib
from collections.abc import Iterable, Iterator

from pipeline.contracts import ReferenceImage
from pipeline.errors import InputError, PalimpsestError
from pipeline.model_files.references import ROW_MARK, FileRef, read_reference, resolve_images, row_of
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import Shard, find_shards
from pipeline.shards.links.linked_images import OWN_FOLDER
from pipeline.shards.reader import SourceRow, read_windows
from schemas.recipe import Columns

SUFFIX = ".parquet"
MAX_ROWS = 10_000
"""Most rows of a Parquet set: each becomes a file in `_artifacts/`, and every worker reads all of them."""
_WINDOW_ROWS = 64
_AT_INPUT = "input.uri "


def find_images(reference: str, base: str) -> tuple[FileRef, ...]:
    """Return the images of a set: those of `resolve_images`, or the rows of a Parquet file, glob or folder.

    A folder that holds image files is a set of these, whatever else is in it. A row's `uri` is that of its file, with
    `#row=` and its number. The image column is found as an input's is.

    Raises:
        InputError: nothing is there, the set is too large, or a row has no image.
    """
    if not reference.endswith(SUFFIX):
        try:
            return resolve_images(reference, base)
        except InputError as error:
            shards = () if reference.startswith("builtin:") else _shards_in(reference, base)
            if not shards:
                raise InputError(f"{error}, nor a Parquet file") from None
    else:
        try:
            shards = find_shards(reference, base)
        except InputError as error:
            raise InputError(f"{reference!r}: {str(error).removeprefix(_AT_INPUT)}") from None
    rows = sum(shard.rows for shard in shards)
    if rows > MAX_ROWS:
        raise InputError(f"{reference!r}: {rows:,} images; a set has {MAX_ROWS:,} at most, so take a part of them")
    found = ((shard, row, data) for shard in shards for row, data in _rows(shard, reference))
    return tuple(FileRef(reference, _uri(shard, row), hashlib.sha256(data).hexdigest()) for shard, row, data in found)


def read_images(refs: Iterable[FileRef]) -> Iterator[ReferenceImage]:
    """Yield every image with its bytes, those of files first; each Parquet file is read once.

    Raises:
        InputError: an image has changed since the plan.
    """
    by_file: dict[str, list[FileRef]] = {}
    for ref in refs:
        uri, row = row_of(ref.uri)
        if row is not None:
            by_file.setdefault(uri, []).append(ref)
        else:
            yield ReferenceImage(ref.uri, ref.sha256, read_reference(ref))
    for uri, wanted in by_file.items():
        (shard,) = find_shards(uri, ".")
        held = {_uri(shard, row): data for row, data in _rows(shard, wanted[0].reference)}
        for ref in wanted:
            data = held.get(ref.uri, b"")
            if hashlib.sha256(data).hexdigest() != ref.sha256:
                raise InputError(f"{ref.uri}: the image has changed since the run was planned; plan again")
            yield ReferenceImage(ref.uri, ref.sha256, data)


def _shards_in(reference: str, base: str) -> tuple[Shard, ...]:
    try:
        return find_shards(reference, base)
    except InputError:
        return ()


def _rows(shard: Shard, reference: str) -> Iterator[tuple[int, bytes]]:
    try:
        layout = read_layout((shard,), Columns(label="none"), ())
        for _, rows in read_windows(shard, layout, 0, shard.rows, _WINDOW_ROWS, OWN_FOLDER):
            for row in rows:
                yield row.row, _bytes(row)
    except PalimpsestError as error:
        raise InputError(f"{reference!r}: {error}") from None


def _bytes(row: SourceRow) -> bytes:
    if row.data is None:
        raise InputError(f"{row.uri}{ROW_MARK}{row.row}: {row.error}; remove the row, or give it an image")
    return row.data


def _uri(shard: Shard, row: int) -> str:
    return f"{shard.uri}{ROW_MARK}{row}"
