"""Output rows of finished samples: resized, watermarked, encoded, and joined with their lineage."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.contracts import Pixels
from pipeline.errors import UnitError
from pipeline.execution.background import BackgroundThreads
from pipeline.execution.job import Job, LoadedBranch
from pipeline.execution.sample import Sample
from pipeline.execution.watermarking import UNMARKABLE
from pipeline.execution.window import Window
from pipeline.lineage.records import output_table, quarantine_table
from pipeline.plan import ORIGINAL, Unit
from pipeline.shards.columns.dimensions import Resized, Shape, rewritten
from pipeline.shards.images.codecs import decode, encode, extension, resize, to_channels


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image and its recorded marks; `shape` is None where the bytes are the source's own."""

    data: bytes
    shape: Shape | None
    watermarks: list[dict[str, Any]]
    rejected: str | None


def tables_of(branch: LoadedBranch, unit: Unit, window: Window, background: BackgroundThreads) -> dict[str, pa.Table]:
    """Return the window's rows as a table for each of the folders that gets any.

    Raises:
        UnitError: an image without a source row could not be made; there is no row to quarantine.
    """
    job = branch.job
    for sample in window.samples:
        if sample.error is not None:
            window.errors.setdefault(sample.source, sample.error)
    if window.errors and window.table is None:
        raise UnitError(
            f"image {min(window.errors)} of a window could not be made: {window.errors[min(window.errors)]}"
        )
    # A row is quarantined with all its copies, so that every image asked for is accounted for.
    samples = [sample for sample in window.samples if sample.source not in window.errors]
    encoded = _encoded(branch, unit, window, samples, background)
    hashes = _Hashes(window)
    rows = [_row(branch, unit, window, sample, made, hashes) for sample, made in zip(samples, encoded, strict=True)]
    found = {
        "data": [row for row in rows if row["rejected_reason"] is None],
        "rejected": [row for row in rows if row["rejected_reason"] is not None],
    }
    tables = {
        folder: _with_sizes(job, window, output_table(job.rows, window.table, some, folder == "rejected"), some)
        for folder, some in found.items()
        if some
    }
    if window.errors and window.table is not None:
        tables["quarantine"] = quarantine_table(job.rows, window.table, _quarantined(unit, window))
    for sample in window.samples:
        sample.pixels = None  # the window itself lives on until the next one is made
    return tables


def _encoded(
    branch: LoadedBranch, unit: Unit, window: Window, samples: Sequence[Sample], background: BackgroundThreads
) -> list[EncodedImage]:
    if unit.branch == ORIGINAL:
        return [EncodedImage(window.rows[sample.source].data or b"", None, [], None) for sample in samples]
    job, output = branch.job, branch.job.recipe.output
    pixels = list(background.map(lambda sample: sized(job, sample), samples))
    names = [sample.sample_id for sample in samples]
    levels: list[float | None] = []
    if branch.watermarker is not None:
        pixels, levels = branch.watermarker.embed(pixels, names)
    stored = list(background.map(lambda image: encode(image, output.encoding, output.quality), pixels))
    if branch.watermarker is None:
        return [
            EncodedImage(data, _shape(image), [], sample.rejected)
            for data, image, sample in zip(stored, pixels, samples, strict=True)
        ]
    again = list(background.map(lambda data: decode(data, 2**31), stored))
    marks = branch.watermarker.records(again, names, levels)
    return [
        EncodedImage(
            data, _shape(image), mark, sample.rejected or (None if mark and mark[0]["verified"] else UNMARKABLE)
        )
        for data, image, mark, sample in zip(stored, pixels, marks, samples, strict=True)
    ]


def _shape(pixels: Pixels) -> Shape:
    height, width, channels = pixels.shape
    return height, width, channels


def _with_sizes(job: Job, window: Window, table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a table in which the columns that hold the size of the image have the size of the made one."""
    if window.table is None or not job.dimensions or any(row["_shape"] is None for row in rows):
        return table
    made = [Resized(window.shapes[row["source"]], row["_shape"]) for row in rows]
    columns = {name: table.column(output).combine_chunks() for name, output in job.dimensions.items()}
    for name, column in rewritten(columns, made).items():
        place = table.schema.get_field_index(job.dimensions[name])
        table = table.set_column(place, table.schema.field(place), column)
    return table


def sized(job: Job, sample: Sample) -> Pixels:
    """Return a sample's pixels at the size and in the channels of the recipe, or else of its source."""
    assert sample.pixels is not None
    pixels, shape, output = sample.pixels, sample.shape, job.recipe.output
    height, width = (output.size, output.size) if isinstance(output.size, int) else (shape or pixels.shape)[:2]
    if pixels.shape[:2] != (height, width):
        pixels = resize(pixels, height, width)
    channels = output.channels
    if channels == "source" and shape is not None:
        channels = "grey" if shape[2] == 1 else "rgb"
    return to_channels(pixels, channels)


class _Hashes:
    """sha256 of source images by row, each computed once."""

    def __init__(self, window: Window) -> None:
        self._rows = window.rows
        self._found: dict[int, str] = {}

    def __getitem__(self, index: int) -> str:
        if index not in self._found:
            self._found[index] = hashlib.sha256(self._rows[index].data or b"").hexdigest()
        return self._found[index]


def _row(
    branch: LoadedBranch, unit: Unit, window: Window, sample: Sample, made: EncodedImage, hashes: _Hashes
) -> dict[str, Any]:
    """Return one output row by column name; `source` and `_shape` are for this module and not stored."""
    original = unit.branch == ORIGINAL
    name = None if original else f"{sample.sample_id}.{extension(branch.job.recipe.output.encoding)}"
    row: dict[str, Any] = {
        "source": sample.source,
        "_shape": made.shape,
        "image": {"bytes": made.data, "path": name},
        "label": branch.job.table.value(sample.label),
        "soft_label": sample.soft_label,
        "sample_id": sample.sample_id,
        "partners": [vars(partner) for partner in sample.partners],
        "branch": unit.branch,
        "copy_index": sample.copy,
        "attempt": sample.attempt,
        "steps": sample.steps,
        "digital_source_type": branch.plan.digital_source_type,
        "unit_digest": unit.digest,
        "image_sha256": hashlib.sha256(made.data).hexdigest(),
        "watermarks": made.watermarks,
        "quality": sample.scores,
        "rejected_reason": made.rejected,
    }
    if unit.shard is not None:
        source = window.rows[sample.source]
        row |= {
            "label": _label(branch.job, source.label, sample.label),
            "source_id": source.id,
            "source_uri": source.uri,
            "source_row": source.row,
            "source_sha256": hashes[sample.source],
        }
    return row


def _label(job: Job, given: Any, index: int) -> Any:
    """Return the label to store: the source's own, or the value of the class that an operator has set."""
    return given if index == job.table.index(given) else job.table.value(index)


def _quarantined(unit: Unit, window: Window) -> list[dict[str, Any]]:
    return [
        {
            "source": index,
            "image": {"bytes": window.rows[index].data, "path": window.rows[index].link},
            "source_id": window.rows[index].id,
            "source_uri": window.rows[index].uri,
            "source_row": window.rows[index].row,
            "branch": unit.branch,
            "error_code": error.code,
            "error_message": error.message,
        }
        for index, error in sorted(window.errors.items())
    ]
