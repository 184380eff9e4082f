"""Output rows of finished samples: resized, watermarked, encoded, and joined with their lineage."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipeline.contracts import Pixels
from pipeline.errors import UnitError
from pipeline.execution.background import BackgroundThreads
from pipeline.execution.job import Job, LoadedBranch
from pipeline.execution.sample import Sample
from pipeline.execution.watermarking import UNMARKABLE
from pipeline.execution.window import Window
from pipeline.lineage.records import image_array, output_table, quarantine_table
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
    rows = _Rows(branch, unit, window, samples, encoded)
    rejected = [made.rejected is not None for made in encoded]
    places = {
        "data": [i for i, no in enumerate(rejected) if not no],
        "rejected": [i for i, no in enumerate(rejected) if no],
    }
    tables = {folder: rows.table(some, folder == "rejected") for folder, some in places.items() if some}
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


@dataclass(frozen=True)
class _Rows:
    """The output rows of a window, made into tables column by column."""

    branch: LoadedBranch
    unit: Unit
    window: Window
    samples: Sequence[Sample]
    encoded: Sequence[EncodedImage]

    @cached_property
    def _hashes(self) -> dict[int, str]:
        """sha256 of source images by row, each computed once."""
        rows = self.window.rows
        return {i: hashlib.sha256(rows[i].data or b"").hexdigest() for i in {each.source for each in self.samples}}

    def table(self, places: Sequence[int], rejected: bool) -> pa.Table:
        """Return some of the rows as a table of `data/` or `rejected/`."""
        samples = [self.samples[place] for place in places]
        made = [self.encoded[place] for place in places]
        columns = self._made(samples, made) | (self._source(samples) if self.unit.shard is not None else {})
        table = output_table(
            self.branch.job.rows, self.window.table, [sample.source for sample in samples], columns, rejected
        )
        return self._with_sizes(table, samples, made)

    def _made(self, samples: Sequence[Sample], made: Sequence[EncodedImage]) -> dict[str, Any]:
        job, unit, count = self.branch.job, self.unit, len(samples)
        end = extension(job.recipe.output.encoding)
        names = [None if unit.branch == ORIGINAL else f"{sample.sample_id}.{end}" for sample in samples]
        return {
            "image": image_array([each.data for each in made], names),
            "label": [job.table.value(sample.label) for sample in samples],
            "soft_label": [sample.soft_label for sample in samples],
            "sample_id": [sample.sample_id for sample in samples],
            "partners": [[vars(partner) for partner in sample.partners] for sample in samples],
            "branch": pa.repeat(unit.branch, count),
            "copy_index": [sample.copy for sample in samples],
            "attempt": [sample.attempt for sample in samples],
            "steps": [sample.steps for sample in samples],
            "digital_source_type": [self.branch.plan.digital_source_type] * count,
            "unit_digest": pa.repeat(unit.digest, count),
            "image_sha256": [hashlib.sha256(each.data).hexdigest() for each in made],
            "watermarks": [each.watermarks for each in made],
            "quality": [sample.scores for sample in samples],
            "rejected_reason": [each.rejected for each in made],
        }

    def _source(self, samples: Sequence[Sample]) -> dict[str, Any]:
        table, rows = self.branch.job.table, [self.window.rows[sample.source] for sample in samples]
        return {
            # the source's own, or the value of the class that an operator has set
            "label": [
                row.label if sample.label == table.index(row.label) else table.value(sample.label)
                for row, sample in zip(rows, samples, strict=True)
            ],
            "source_id": [row.id for row in rows],
            "source_uri": [row.uri for row in rows],
            "source_row": [row.row for row in rows],
            "source_sha256": [self._hashes[sample.source] for sample in samples],
        }

    def _with_sizes(self, table: pa.Table, samples: Sequence[Sample], made: Sequence[EncodedImage]) -> pa.Table:
        """Return a table in which the columns that hold the size of the image have the size of the made one."""
        job, window = self.branch.job, self.window
        if window.table is None or not job.dimensions:
            return table
        sizes = [
            Resized(window.shapes[sample.source], each.shape)
            for sample, each in zip(samples, made, strict=True)
            if each.shape is not None
        ]
        if len(sizes) < len(made):
            return table
        columns = {name: table.column(output).combine_chunks() for name, output in job.dimensions.items()}
        for name, column in rewritten(columns, sizes).items():
            place = table.schema.get_field_index(job.dimensions[name])
            table = table.set_column(place, table.schema.field(place), column)
        return table


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
