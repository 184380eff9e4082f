"""Windows: consecutive source rows of a unit, decoded, with the samples to be made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from pipeline.contracts import Pixels
from pipeline.errors import RowError
from pipeline.execution.background import BackgroundThreads
from pipeline.execution.job import Job, LoadedBranch
from pipeline.execution.partners import Candidate
from pipeline.execution.sample import Sample
from pipeline.plan import Unit
from pipeline.seeding import sample_id, synthetic_id
from pipeline.shards.columns.dimensions import Shape
from pipeline.shards.images.codecs import decode, decode_square_reduced, fit_square, pixels_declared
from pipeline.shards.images.jpeg import Frame, read_plain_header
from pipeline.shards.reader import Bound, SourceRow, read_windows

WINDOW_BYTES: Final = 288 << 20
"""Decoded source images of a window at most, by their headers: 64 of 1.5 megapixels, 4 of 24, one of more than 50."""

_MESSAGES_WITHOUT_BYTES = (
    "empty_image", "too_large", "unsupported_mode", "unsupported_format", "ambiguous_depth", "depth_exceeded",
)  # fmt: skip
"""Errors of the decoder whose messages quote no bytes of the file."""


@dataclass
class Window:
    """The rows in memory at one time. `errors` is by index in `rows`; `selected` counts the rows that match `where`.

    `first` is the index of the first image, where there are no rows. `shapes` are those of the decoded images, upright
    and before `output.size`, by index in `rows`. `candidates` are the rows that its images may be
    given as partners, where an operator wants any.
    """

    table: pa.Table | None
    rows: list[SourceRow]
    samples: list[Sample]
    errors: dict[int, RowError]
    selected: int
    first: int = 0
    shapes: dict[int, Shape] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)


def new_sample(
    job: Job, unit: Unit, window: Window, source: int, copy: int, pixels: Pixels | None, attempt: int = 0
) -> Sample:
    """Return a sample to be made; its id, which seeds all its draws, follows from its place and its attempt.

    Args:
        source: index of its row in the window; of the image in the unit's window where there are no rows.
        pixels: its source image [H, W, C].
    """
    if unit.shard is None:
        name = synthetic_id(job.recipe.seed, unit.branch, unit.label, window.first + source, attempt)
        return Sample(name, source, copy, job.table.index(unit.label), None, attempt)
    row = window.rows[source]
    name = sample_id(job.recipe.seed, unit.shard.path, row.row, unit.branch, copy, attempt)
    return Sample(name, source, copy, job.table.index(row.label), pixels, attempt)


def windows(branch: LoadedBranch, unit: Unit, background: BackgroundThreads) -> Iterator[Window]:
    """Yield a unit's windows in order."""
    if unit.shard is None:
        yield from _synthetic(branch, unit)
        return
    job = branch.job
    assert job.layout is not None
    before: list[Candidate] = []
    place = unit.first, unit.rows, branch.window_rows
    bound = _bound(branch)
    for table, rows in read_windows(unit.shard, job.layout, *place, job.links, branch.cursor_cache, bound):
        window = _window(branch, unit, table, rows, background)
        here = list(window.candidates)
        window.candidates[:0] = before
        before = here
        yield window


def _bound(branch: LoadedBranch) -> Bound | None:
    """Return what bounds a window beside its rows; None where images have one size, or need partners beside them."""
    if branch.job.recipe.output.size != "source" or branch.wants_partners:
        return None
    copies = max(1, branch.plan.copies)
    return Bound(WINDOW_BYTES // copies, lambda row: 3 * pixels_declared(row.data) if row.data else 0)


def _window(
    branch: LoadedBranch, unit: Unit, table: pa.Table, rows: list[SourceRow], background: BackgroundThreads
) -> Window:
    job, chosen = branch.job, branch.selection.of(rows)
    window = Window(table, rows, [], {}, len(chosen))
    memory = _memory(branch, [rows[index] for index in chosen])
    decoded = background.map(
        lambda pair: _decoded(branch, *pair), [(rows[i], at) for i, at in zip(chosen, memory, strict=True)]
    )
    wants_partners, copies = branch.wants_partners, branch.plan.copies
    for index, found in zip(chosen, decoded, strict=True):
        if isinstance(found, RowError):
            window.errors[index] = _without_foreign_bytes(rows[index], found)
            continue
        pixels, window.shapes[index] = found
        if wants_partners:
            window.candidates.append(Candidate(rows[index], pixels))
        for copy in range(copies):
            window.samples.append(new_sample(job, unit, window, index, copy, pixels))
    return window


def _memory(branch: LoadedBranch, rows: Sequence[SourceRow]) -> list[Pixels | None]:
    """Return memory [H, W, C] to decode each row into, side by side where images have one shape; else None.

    Only where a sample has its pixels to itself: the chain takes such images as a batch without a copy.
    """
    if branch.wants_partners or branch.gates or branch.plan.copies != 1 or not branch.steps:
        return [None] * len(rows)
    size, limit = branch.job.recipe.output.size, branch.job.recipe.input.max_pixels
    places: dict[Frame, list[int]] = {}
    for place, row in enumerate(rows):
        frame = read_plain_header(row.data) if row.data and row.error is None else None
        fits = frame is not None and (size == "source" or frame.height == frame.width == size)
        if frame is not None and fits and frame.height * frame.width <= limit:
            places.setdefault(frame, []).append(place)
    memory: list[Pixels | None] = [None] * len(rows)
    for frame, several in places.items():
        for place, pixels in zip(several, np.empty((len(several), *frame), np.uint8), strict=True):
            memory[place] = pixels
    return memory


def _synthetic(branch: LoadedBranch, unit: Unit) -> Iterator[Window]:
    for first in range(unit.first, unit.first + unit.rows, branch.window_rows):
        count = min(branch.window_rows, unit.first + unit.rows - first)
        window = Window(None, [], [], {}, count, first)
        window.samples.extend(new_sample(branch.job, unit, window, index, 0, None) for index in range(count))
        yield window


def _decoded(branch: LoadedBranch, row: SourceRow, into: Pixels | None) -> tuple[Pixels, Shape] | RowError:
    """Return the image of a row at the recipe's size, and its shape before; a RowError where it cannot be used.

    Of a row that is carried as it is, the image is only checked: a JPEG at 1/8 of its size, in two thirds of the time.
    """
    job, carried = branch.job, not branch.steps
    if row.error is not None or row.data is None:
        return row.error or RowError("null_image", "the image is null")
    wanted, size = job.recipe.input, job.recipe.output.size
    if carried or (wanted.reduced_decode and size != "source"):
        reduced = decode_square_reduced(row.data, wanted.max_pixels, 1 if carried or size == "source" else size)
        if reduced is not None:
            return reduced
    try:
        pixels = decode(row.data, wanted.max_pixels, wanted.bit_depth, into)
    except RowError as error:
        return error
    height, width, channels = pixels.shape
    return pixels if size == "source" else fit_square(pixels, size), (height, width, channels)


def _without_foreign_bytes(row: SourceRow, error: RowError) -> RowError:
    """Remove the bytes of a linked file that is no image from its row and its error; they are not the shard's."""
    if row.link is None or row.data is None:
        return error
    size = len(row.data)
    row.data = None
    if error.code in _MESSAGES_WITHOUT_BYTES:
        return RowError(error.code, f"{row.link}: {error.message}")
    return RowError(error.code, f"{row.link}: its {size} bytes are no image that can be decoded")
