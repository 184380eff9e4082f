"""A sheet of pictures in columns, on white: bands of heads and lines. Drawn with Pillow's own font."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, MARGIN, HEADS = 256, 12, 28, 150
"""Pixels: a cell's side, between two cells, around the sheet; the height of a band's title and heads."""
INSET, FRAME = 64, 3
"""Pixels: side of the picture in a cell's corner, and the white line around it."""
INK, GREY = "#1b1b1b", "#6a6a6a"
QUALITY = 84  # of the JPEG


@dataclass(frozen=True)
class Cell:
    """One cell of a sheet: an encoded image, cut to a square, or four small ones enlarged without smoothing.

    Attributes:
        images: one encoded image, or four.
        inset: an encoded picture for the lower right corner.
        square: left, top, width, height in pixels of what is outlined.
    """

    images: Sequence[bytes]
    inset: bytes | None = None
    square: tuple[int, int, int, int] | None = None

    def drawn(self) -> Image.Image:
        """Return the cell: RGB, SIDE x SIDE px."""
        if len(self.images) > 1:
            return _four(self.images)
        cell = _square(self.images[0], SIDE)
        if self.square is not None:
            left, top, width, height = self.square
            ImageDraw.Draw(cell).rectangle((left, top, left + width - 1, top + height - 1), outline="white", width=2)
        if self.inset is not None:
            start = SIDE - INSET
            cell.paste("white", (start - FRAME, start - FRAME, SIDE, SIDE))
            cell.paste(_square(self.inset, INSET), (start, start))
        return cell


@dataclass(frozen=True)
class _Heads:
    title: str
    columns: Sequence[tuple[str, str]]


class Sheet:
    """Bands of pictures under their heads, added from above.

    Args:
        columns: cells of a line.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._parts: list[_Heads | Sequence[Cell]] = []

    def add_heads(self, title: str, columns: Sequence[tuple[str, str]]) -> None:
        """Begin a band: its title, and for each column a name and a line below."""
        self._parts.append(_Heads(title, columns))

    def add_line(self, cells: Sequence[Cell]) -> None:
        """Add a line of cells to the band."""
        self._parts.append(cells)

    def save(self, path: Path) -> None:
        """Write the sheet as its suffix says."""
        heights = [HEADS if isinstance(part, _Heads) else SIDE + GAP for part in self._parts]
        width = 2 * MARGIN + self.columns * (SIDE + GAP) - GAP
        sheet = Image.new("RGB", (width, sum(heights) + MARGIN - GAP), "white")
        top = 0
        for part, height in zip(self._parts, heights, strict=True):
            if isinstance(part, _Heads):
                _write_heads(sheet, part, top)
            else:
                for index, cell in enumerate(part):
                    sheet.paste(cell.drawn(), (MARGIN + index * (SIDE + GAP), top))
            top += height
        sheet.save(path, quality=QUALITY, optimize=True, progressive=True)


def _write_heads(sheet: Image.Image, band: _Heads, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, top + 62), band.title, fill=INK, font=ImageFont.load_default(size=32), anchor="ls")
    for index, (name, line) in enumerate(band.columns):
        left = MARGIN + index * (SIDE + GAP)
        draw.text((left, top + 108), name, fill=INK, font=ImageFont.load_default(size=26), anchor="ls")
        draw.text((left, top + 136), line, fill=GREY, font=ImageFont.load_default(size=20), anchor="ls")


def _square(encoded: bytes, side: int) -> Image.Image:
    """Return the middle square of an encoded image: RGB, side x side px."""
    whole = Image.open(io.BytesIO(encoded)).convert("RGB")
    short = min(whole.size)
    left, top = (whole.width - short) // 2, (whole.height - short) // 2
    return whole.resize((side, side), Image.Resampling.LANCZOS, box=(left, top, left + short, top + short))


def _four(images: Sequence[bytes]) -> Image.Image:
    """Return four small images, two by two, each enlarged a whole number of times: RGB, SIDE x SIDE px."""
    cell = Image.new("RGB", (SIDE, SIDE), "white")
    for index, encoded in enumerate(images):
        small = Image.open(io.BytesIO(encoded)).convert("RGB")
        side = (SIDE - GAP) // 2 // small.width * small.width
        place = (index % 2 * (side + GAP), index // 2 * (side + GAP))
        cell.paste(small.resize((side, side), Image.Resampling.NEAREST), place)
    return cell
